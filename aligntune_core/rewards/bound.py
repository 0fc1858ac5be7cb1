"""A reward that is ready to be called: its function, how it is called, and what is said when it fails."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aligntune_core.errors import RewardError, told
from aligntune_core.rewards.lines import home_of, line_of
from aligntune_core.rewards.results import WrongResultError, scores
from aligntune_core.rewards.signature import Form, form_of
from aligntune_core.rewards.values import ROW, AtRow, Function
from aligntune_core.rewards.worker import Worker, awaited

FIELD = "reward"
_SHOWN = 4
_IN_A_THREAD = "signal only works in main thread"


def _own(value: Any) -> Any:
    """A copy of lists and mappings: a function that changes what it is given changes nobody else's."""
    if isinstance(value, list):
        return [_own(each) for each in value]
    return {key: _own(each) for key, each in value.items()} if isinstance(value, dict) else value


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BoundReward:
    """A reward of a run.

    Attributes:
        name: unique within the run; errors and metrics use it.
        weight: it is multiplied by this before the rewards are summed.
        function: what scores, as it was given or made.
        source: where it is from, for run.json: a registry name with its options, `module:function`, `FILE.py:name`,
            or the qualified name of a Python object.
        portable: another process can find it by what the settings say.
    """

    name: str
    weight: float = 1.0
    function: Function
    source: str
    portable: bool
    form: Form = field(init=False)
    _worker: Worker = field(init=False, default_factory=Worker, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "form", form_of(self.function))

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        *,
        columns: Mapping[str, Sequence[Any]],
        completion_ids: Sequence[Sequence[int]] | None = None,
        timeout: float,
        extra: Mapping[str, Any] | None = None,
    ) -> list[float | None]:
        """Score a batch.

        Args:
            prompts, completions: texts, or lists of messages; one each for a row.
            columns: the further columns of the rows; `aligntune_row`, where it is there, names rows in errors only.
            completion_ids: the tokens of each completion.
            timeout: seconds that the whole batch may take.
            extra: what else TRL offers: trainer_state, log_metric, log_extra.

        Returns:
            For each completion a finite number, or None where the reward does not apply to it.

        Raises:
            RewardError: the function raised, took too long, tried to end the process, or gave something else.
        """
        if not completions:
            return []
        batch = _Batch(self, prompts, completions, columns, completion_ids, extra or {})
        try:
            job = self._worker.run(batch.score, timeout)
        except TimeoutError:
            remedy = "raise reward_timeout, or give what the function waits for a limit of its own"
            raise batch.error(f"it took longer than {timeout:g} s", remedy, batch.at) from None
        if job.error is not None:
            raise batch.explained(job.error) from _cause(job.error)
        result: list[float | None] = job.result
        return result


def _cause(error: BaseException) -> BaseException | None:
    """What the function raised itself."""
    return error.__cause__ if isinstance(error, AtRow) else None if isinstance(error, WrongResultError) else error


class _Batch:
    """One call for one batch; `at` is the row that is being scored, where that is known."""

    def __init__(
        self,
        reward: BoundReward,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        columns: Mapping[str, Sequence[Any]],
        completion_ids: Sequence[Sequence[int]] | None,
        extra: Mapping[str, Any],
    ) -> None:
        self._reward, self._form, self._extra = reward, reward.form, extra
        self._count = len(completions)
        self._rows = columns.get(ROW)
        self._columns = {name: values for name, values in columns.items() if name != ROW and self._form.takes(name)}
        self._prompts, self._completions, self._ids = prompts, completions, completion_ids
        self.at: int | None = None

    def score(self) -> list[float | None]:
        """Call the function; runs in the worker's thread."""
        return scores(self._by_row() if self._form.by_row else self._at_once(), self._count)

    def _at_once(self) -> Any:
        offered = {name: _own(list(values)) for name, values in self._columns.items()} | dict(self._extra)
        offered = {name: value for name, value in offered.items() if name not in ("prompt", "completion")}
        offered |= {"prompts": _own(list(self._prompts)), "completions": _own(list(self._completions))}
        if self._ids is not None:
            offered["completion_ids"] = [list(ids) for ids in self._ids]
        result = self._reward.function(**self._form.arguments(offered))
        return awaited([result], rows=False)[0] if inspect.isawaitable(result) else result

    def _row(self, index: int) -> dict[str, Any]:
        offered = {name: _own(values[index]) for name, values in self._columns.items()} | dict(self._extra)
        offered |= {"prompt": _own(self._prompts[index]), "completion": _own(self._completions[index])}
        if self._ids is not None:
            offered["completion_ids"] = list(self._ids[index])
        return self._form.arguments(offered)

    def _by_row(self) -> list[Any]:
        given: list[Any] = []
        for index in range(self._count):
            self.at = index
            try:
                given.append(self._reward.function(**self._row(index)))
            except BaseException as error:
                for other in filter(inspect.iscoroutine, given):
                    other.close()
                raise AtRow(index) from error
        waiting = [index for index, each in enumerate(given) if inspect.isawaitable(each)]
        if waiting:
            self.at = waiting[0] if len(waiting) == 1 else None
            for index, result in zip(waiting, self._awaited(given, waiting), strict=True):
                given[index] = result
        return given

    @staticmethod
    def _awaited(given: list[Any], waiting: list[int]) -> list[Any]:
        try:
            return awaited([given[index] for index in waiting], rows=True)
        except AtRow as failed:
            raise AtRow(waiting[failed.index]) from failed.__cause__

    def _number(self, index: int) -> str:
        return f"row {self._rows[index]}" if self._rows is not None else f"completion {index + 1} of {self._count}"

    def _where(self, at: int | None) -> str:
        if at is not None:
            return f"{self._number(at)}: "
        if self._rows is None:
            return ""
        rows = list(dict.fromkeys(self._rows))
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        return f"in a batch of row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:_SHOWN]))}{more}: "

    def error(self, problem: str, remedy: str, at: int | None) -> RewardError:
        """The error for what went wrong, at this position in the batch or in the whole of it."""
        return RewardError(f"{self._where(at)}{problem}", remedy, field=FIELD, value=self._reward.name)

    def explained(self, error: BaseException) -> RewardError:
        """The error for what came out of the thread instead of scores."""
        at = error.index if isinstance(error, AtRow) else None
        remedy = "give one finite number for each completion, or None where the reward does not apply"
        if isinstance(error, WrongResultError):
            return self.error(str(error), remedy, None)
        cause = _cause(error)
        if cause is None:
            return self.error(str(error), remedy, at)
        if isinstance(cause, SystemExit):
            return self.error(f"it tried to end the process: {_raised(cause)}", "let the function return", at)
        remedy = "mend the function, or let it give None for such a row"
        if _IN_A_THREAD in told(cause):
            remedy = "rewards run in a thread of their own: use no signals in them, and no time limit made of them"
        return self.error(f"it raised {_raised(cause)}{line_of(cause, home_of(self._reward.function))}", remedy, at)


def _raised(error: BaseException) -> str:
    """Its type and, where it has one that can be shown, its text."""
    return told(error).removesuffix(": ")


def missing_columns(reward: BoundReward, columns: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """The columns that a reward cannot do without and the rows do not have, sorted."""
    return sorted(reward.form.columns - set(columns))
