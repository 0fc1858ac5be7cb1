"""What every algorithm shares that learns from its own answers: rewards that cannot harm a run, and what is told of it.

TRL calls each reward once for a batch of completions. Here a reward that fails ends the run on every process, after
the state before that rollout was saved; a rollout without any difference between rewards is told.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Collection
from functools import partial
from itertools import islice
from typing import Any

import torch

from aligntune_core import DivergedError, RewardError, RunEvents, text_of
from aligntune_core.errors import gist
from aligntune_core.rewards.bound import BoundReward
from aligntune_trl.generate import shown
from aligntune_trl.loop import Relay
from aligntune_trl.random_state import RandomState
from aligntune_trl.scoring import ModelReward

log = logging.getLogger("aligntune")

MOST_UNSCORED = 10
"""Rollouts in a row that no reward applied to; then the run ends."""
SHOWN = 2
"""Answers of a rollout that are shown with a row of metrics."""
_NOT_EVALUATED = ("eval_loss", "eval_clip_ratio/", "eval_frac_reward_zero_std")
"""What TRL gives for an evaluation and means nothing there: it is about 0, whatever the policy is worth."""
_EXTRA = ("trainer_state", "log_extra", "log_metric")


class Failures(list[Exception]):
    """What rewards of this process failed with. TRL gathers rewards over all processes, so none may raise alone."""

    def kept(self, score: Callable[[], list[float | None]], count: int) -> list[float | None]:
        """The scores; zeros where a reward fails, which are never learnt from."""
        try:
            return score()
        except (RewardError, DivergedError) as error:
            self.append(error)
            return [0.0] * count


class Scorer:
    """A reward as TRL calls it: by the batch, with the columns of the rows."""

    def __init__(self, reward: BoundReward, timeout: float, failures: Failures) -> None:
        self._reward, self._timeout, self._failures = reward, timeout, failures
        self.__name__ = reward.name

    def __call__(
        self, prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **given: Any
    ) -> list[float | None]:
        extra = {name: given.pop(name) for name in _EXTRA if name in given}
        given.pop("environments", None)
        call = partial(self._reward, prompts, completions, columns=given, completion_ids=completion_ids)
        return self._failures.kept(lambda: call(timeout=self._timeout, extra=extra), len(completions))


class ModelScorer:
    """A reward model as TRL calls it; a score that is not finite ends the run."""

    def __init__(self, reward: ModelReward, failures: Failures, taken: Collection[str] = ()) -> None:
        self._reward, self._failures = reward, failures
        self.__name__ = f"{reward.name}_model" if reward.name in taken else reward.name

    def __call__(
        self, prompts: list[Any], completions: list[Any], trainer_state: Any = None, **given: Any
    ) -> list[float | None]:
        step = trainer_state.global_step + 1 if trainer_state else 0
        return self._failures.kept(lambda: self._finite(prompts, completions, step), len(completions))

    def _finite(self, prompts: list[Any], completions: list[Any], step: int) -> list[float | None]:
        try:
            found = self._reward(prompts, completions)
        except Exception as error:  # whatever a model raises: the other processes wait for its scores
            remedy = "does it read answers as long as max_completion_length, and fit into memory?"
            problem = f"it cannot score an answer: {gist(error)}"
            raise RewardError(problem, remedy, field="reward_model_name", value=self.__name__) from error
        for score in found:
            if not math.isfinite(score):
                raise DivergedError.at(step, "reward", score)
        return list(found)


_Trainer: Any = object  # TRL's class, which comes beneath when it is known


class _ByEpoch(_Trainer):  # type: ignore[misc]
    """On top of TRL's RepeatSampler: a run that is resumed in a later epoch has that epoch's order, not the first's."""

    def set_epoch(self, epoch: int) -> None:
        """Bring the generator to where the epochs before it left it."""
        self.generator.manual_seed(self.seed)
        for _ in range(epoch):
            torch.randperm(self.num_samples, generator=self.generator)


class _Rewarded(_Trainer):  # type: ignore[misc]
    """What `with_rewards` puts on top of a trainer class."""

    failures: Failures
    alike: bool  # of `per_row`, which comes beneath
    control: Any
    _logs: Any
    _metrics: dict[str, dict[str, list[float]]]
    _saved_step = 0
    _unscored = 0
    _scored = False

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.model.training:
            evaluated: dict[str, Any] = super()._generate_and_score_completions(inputs)
            return evaluated
        before, tokens = RandomState(), self.state.num_input_tokens_seen
        self._scored = False
        try:
            batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
            self._count_unscored()
        except (RewardError, DivergedError):
            before.restore()
            self.state.num_input_tokens_seen = tokens
            self._save_now()
            raise
        self._look_at(batch["advantages"], batch["num_items_in_batch"])
        return batch

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(dataset)
        if not getattr(sampler, "shuffle", True):
            return sampler
        kind: Any = type(type(sampler).__name__, (_ByEpoch, type(sampler)), {})
        found = kind.__new__(kind)
        vars(found).update(vars(sampler))
        return found

    def _save_now(self) -> None:
        """A checkpoint of the last step that is done, as if the rollout that failed had not begun."""
        if self.state.global_step > self._saved_step:
            self._save_checkpoint(self.model, trial=None)
            self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        self._saved_step = self.state.global_step

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        rewards: torch.Tensor = super()._calculate_rewards(*args, **kwargs)
        failed = torch.tensor([float(len(self.failures))], device=rewards.device)
        if float(self.accelerator.reduce(failed, reduction="sum")) > 0:
            error = self.failures[0] if self.failures else None
            self.failures.clear()  # the trainer may go on, once the reward is mended
            raise error or RewardError("failed in another process", "see what that one says", field="reward")
        unscored = torch.isnan(rewards).all(dim=1)
        self._scored = self._scored or not bool(unscored.all())
        if not self.model.training:
            totals = (rewards * self.reward_weights.to(rewards.device)).nansum(dim=1)
            once = len(totals) // self.accelerator.num_processes if self.alike else len(totals)
            self._eval_totals += totals[:once][~unscored[:once]].tolist()
        return rewards

    def _count_unscored(self) -> None:
        self._unscored = 0 if self._scored else self._unscored + 1
        if self._unscored >= MOST_UNSCORED:
            problem = f"no reward applied to any answer in {MOST_UNSCORED} rollouts"
            raise RewardError(problem, "let a reward give a number, not None", field="reward_functions")

    def _look_at(self, advantages: torch.Tensor, tokens: torch.Tensor) -> None:
        """Tell a rollout from which nothing can be learnt."""
        size = self.accelerator.reduce(advantages.abs().sum(), reduction="sum")
        why = ""
        if float(tokens) == 0.0:
            why = f"every answer reached max_completion_length = {self.max_completion_length}, and is left out"
        elif float(size) == 0.0:
            why = "no answer earned more than the others"
        if why:
            log.warning("step %d: nothing is learnt from this rollout: %s", self.state.global_step + 1, why)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """The reward's mean and deviation over all answers, whatever the batch size; train's completions are kept."""
        self._eval_totals: list[float] = []
        logs, self._logs = self._logs, copy.deepcopy(self._logs)
        try:
            output = super().evaluation_loop(*args, **kwargs)
        except (RewardError, DivergedError):
            if self.is_in_train:
                self._save_now()
            raise
        finally:
            self._logs = logs
        if self._eval_totals:
            found = torch.tensor(self._eval_totals, dtype=torch.float64)
            self._metrics["eval"]["reward"] = [float(found.mean())]
            self._metrics["eval"]["reward_std"] = [float(found.std(unbiased=False))]
        return output


def with_rewards(base: type[Any]) -> type[Any]:
    """A trainer class over GRPOTrainer in which a failing reward costs no state; set its `failures`."""
    return type(base.__name__, (_Rewarded, base), {})


class RolloutRelay(Relay):
    """Tells core of rollouts too: a few answers with each row of metrics, and what an evaluation gives.

    The loop stops at the end of a rollout only, where it can be resumed bit for bit.
    """

    def __init__(self, events: RunEvents, native: Any, every: int) -> None:
        super().__init__(events, native.accelerator, every)
        self._native = native

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        logs = dict(logs or {})
        if any(name.startswith("eval_") for name in logs):
            logs = {name: value for name, value in logs.items() if not name.startswith(_NOT_EVALUATED)}
        elif "train_runtime" not in logs and self._accelerator.is_main_process:
            pairs = zip(self._native._logs["prompt"], self._native._logs["completion"], strict=False)
            by_prompt = {shown(asked): text_of(said) for asked, said in pairs}  # of each prompt the last answer
            for asked, said in islice(by_prompt.items(), SHOWN):
                self._events.sample(state.global_step, asked, said)
        super().on_log(args, state, control, logs, **kwargs)
