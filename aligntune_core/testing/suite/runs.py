"""The runs that the checks of one cell share: each is made when the first check asks for it, in an empty folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from aligntune_core.errors import PluginContractError, RunInterrupted, first_line
from aligntune_core.factory import get_trainer, request_of
from aligntune_core.runs import metrics
from aligntune_core.runs.folder import METRICS, read_run
from aligntune_core.saved.find import find_saved
from aligntune_core.saved.opening import open_saved
from aligntune_core.saved_values import Sampling
from aligntune_core.testing.suite.checking import broken
from aligntune_core.testing.suite.watching import Heard, python_hears_ctrl_c, watched
from aligntune_core.trainer import Trainer
from aligntune_core.values import RowPreview, TrainResult

if TYPE_CHECKING:
    from aligntune_core.testing.suite.base import Cell, SuiteBase


T = TypeVar("T")
__tracebackhide__ = True
"""Failures show the author's code and not this module."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A run that has trained. `evaluations` are those before and after it; `checkpoints` the steps of those kept."""

    trainer: Trainer
    heard: Heard
    result: TrainResult | None
    evaluations: tuple[Mapping[str, float], ...] = ()
    run: Mapping[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: tuple[int, ...] = ()

    @property
    def losses(self) -> dict[int, float | None]:
        """Step → training loss."""
        return {row["step"]: row.get("loss") for row in self.rows if row["split"] == "train"}

    @property
    def model(self) -> Path:
        """The saved model, as an absolute path."""
        return self.trainer.run_dir / "model"


class shared(cached_property[T]):  # noqa: N801 - used as cached_property is
    """A run that several checks look at. Where it fails, the first of them tells how, and the others point to it."""

    def __get__(self, bench: Any, owner: type | None = None) -> Any:
        if bench is None:
            return self
        name = str(self.attrname)
        if name in bench.failed:
            broken(
                f"the run '{name}' of {bench.cell} has failed: {bench.failed[name]}",
                "see the first failure of this cell",
            )
        try:
            return super().__get__(bench, owner)
        except (Exception, pytest.fail.Exception) as error:
            bench.failed[name] = first_line(error) or type(error).__name__
            raise


class Bench:
    """The runs of one cell.

    Attributes:
        changes: what the backend changed outside its run folders, a line each.
        failed: run → why it failed.

    Args:
        suite: an instance of the author's class.
        cell: what is trained.
        folder: an empty folder.
    """

    def __init__(self, suite: SuiteBase, cell: Cell, folder: Path) -> None:
        self.suite, self.cell = suite, cell
        self.given, self.place = folder / "given", folder / "place"
        self.changes: list[str] = []
        self.failed: dict[str, str] = {}
        self._ours: set[str] = set()
        self._kept: dict[str, tuple[str, str]] = {}
        for path in (self.given, self.place):
            path.mkdir()

    # what is given to a run

    @cached_property
    def model(self) -> Path:
        """The tiny untrained model."""
        path = self.given / "model"
        if not self.suite.write_model(self.cell.model_type, path):
            remedy = "implement the hook tiny_model for it, or override write_model(model_type, path) in your class"
            broken(f"there is no tiny model of type {self.cell.model_type}, which is claimed", remedy)
        return path

    @cached_property
    def rows(self) -> Path:
        """The rows in a JSONL file."""
        rows = self.suite.rows(self.cell.algorithm, self.cell.task)
        if not rows:
            remedy = "override rows(algorithm, task) in your class, or take the task out of cells"
            broken(f"{self.cell} is claimed, and the suite has no rows for that task", remedy)
        path = self.given / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return path

    @property
    def questions(self) -> list[Any]:
        return self.suite.inputs(self.cell.algorithm, self.cell.task)

    def trainer(self, name: str, **settings: Any) -> Trainer:
        """A quiet trainer through the public door; a setting that is None is not given.

        Args:
            name: of its run folder.
            **settings: they win over the usual ones.
        """
        self._ours.add(name)
        given: dict[str, Any] = {
            "model_name": str(self.model),
            "dataset_name": str(self.rows),
            "eval_dataset_name": str(self.rows),
            "task_type": self.cell.task,
            "output_dir": str(self.place / name),
            **self.suite.usual(self.cell.algorithm),
            **settings,
        }
        kept = {key: value for key, value in given.items() if value is not None}
        with self.watched("build_trainer()"):
            trainer = get_trainer(self.cell.algorithm, self.suite.backend, **kept)
        trainer.listen()
        return trainer

    # what must stay as it is

    @contextlib.contextmanager
    def watched(self, doing: str) -> Iterator[None]:
        """Note in `changes` what a call of the backend changed and printed; an error says where it came from."""
        with contextlib.chdir(self.place):
            changed: list[str] = []
            try:
                with watched(changed, self.place, self._ours, self.given):
                    yield
            except PluginContractError as error:
                broken(f"{doing}, for {self.cell}: {error.problem}", "keep what BackendTrainer and RunEvents promise")
            except BaseException as error:
                error.add_note(f"in {doing}, for {self.cell}")
                raise
        self.changes += [f"{doing} {change}" for change in changed]

    def evaluate(self, trainer: Trainer) -> dict[str, float]:
        with self.watched("evaluate()"):
            return trainer.evaluate()

    def predict(self, trainer: Trainer, questions: list[Any]) -> list[Any]:
        with self.watched("predict()"):
            return trainer.predict(questions)

    # the runs

    def train(self, name: str, *, evaluates: bool = False, **settings: Any) -> Trained:
        """Train to the end, without checks."""
        trainer, heard = self.trainer(name, **settings), Heard()
        trainer.listen(heard)
        before = (self.evaluate(trainer),) if evaluates else ()
        with self.watched("train()"):
            result = trainer.train()
        after = (self.evaluate(trainer),) if evaluates else ()
        return self._trained(trainer, heard, result, (*before, *after))

    def _trained(
        self,
        trainer: Trainer,
        heard: Heard,
        result: TrainResult | None,
        evaluations: tuple[Mapping[str, float], ...] = (),
    ) -> Trained:
        rows = metrics.read(trainer.run_dir / METRICS)
        steps = sorted(int(path.name.rpartition("-")[2]) for path in trainer.run_dir.glob("checkpoint-*"))
        return Trained(trainer, heard, result, evaluations, read_run(trainer.run_dir) or {}, rows, tuple(steps))

    @shared
    def whole(self) -> Trained:
        """The run from beginning to end, evaluated before and after."""
        return self.train("whole", evaluates=True)

    @shared
    def again(self) -> Trained:
        """The same run once more."""
        return self.train("again")

    @shared
    def otherwise(self) -> Trained:
        """The same run with another seed."""
        return self.train("otherwise", seed=int(self.suite.usual(self.cell.algorithm).get("seed", 42)) + 1)

    @shared
    def interrupted(self) -> Trained:
        """The same run, stopped by Ctrl-C."""
        trainer, heard = self.trainer("resumed"), Heard(interrupt=True)
        trainer.listen(heard)
        stops = contextlib.suppress(RunInterrupted)
        with python_hears_ctrl_c(), self.watched("train(), interrupted by Ctrl-C"), stops:
            trainer.train()
            broken("a run that was interrupted trained on", "look at events.stopping after each step")
        stopped = self._trained(trainer, heard, None)
        trainer.close()
        return stopped

    @shared
    def resumed(self) -> Trained:
        """The interrupted run, gone on with by a new trainer."""
        _ = self.interrupted
        trainer, heard = self.trainer("resumed", resume=True), Heard()
        trainer.listen(heard)
        with self.watched("train(), resumed"):
            result = trainer.train()
        return self._trained(trainer, heard, result, (self.evaluate(trainer),))

    @shared
    def counted(self) -> Trained:
        """One epoch, with everything that recurs set to a rhythm of its own."""
        wanted = {"num_epochs": 1.0, "logging_steps": 2, "save_steps": 3, "eval_steps": 4, "save_total_limit": 100}
        honoured = self.suite.honoured(self.cell.algorithm)
        settings: dict[str, Any] = {name: value for name, value in wanted.items() if name in honoured}
        if "num_epochs" in honoured:
            settings["max_steps"] = None
        return self.train("counted", **settings)

    @shared
    def answers(self) -> list[Any]:
        """What the trained model answers."""
        return self.predict(self.whole.trainer, self.questions)

    def preview_alone(self) -> list[RowPreview] | None:
        """The training rows as `aligntune preview` shows them; None where the backend has no hook for it."""
        plan = self.whole.trainer._plan
        with self.watched("build_preview()"):
            found = self.suite.found.build_preview(request_of(plan))
            return None if found is None else found.rows(list(plan.rows.train))

    def reopened(self, name: str, model: Path) -> tuple[dict[str, float], list[Any]]:
        """A saved model, loaded by a new trainer: its evaluation and its answers."""
        with contextlib.closing(self.trainer(name, model_name=str(model))) as trainer:
            return self.evaluate(trainer), self.predict(trainer, self.questions)

    def opened(self, model: Path) -> list[Any]:
        """The answers of a saved model that is opened to be used."""
        with self.watched("open_model()"):
            found = open_saved(find_saved(str(model)))
        with self.watched("predict() of an opened model"), contextlib.closing(found):
            return found.predict(self.questions, Sampling())

    def resolved(self, *, rows: bool = False, **settings: Any) -> str:
        """What a trainer holds with these settings, as text.

        Args:
            rows: with the first rows as the model sees them.
            **settings: as for `trainer`.
        """
        key = repr(sorted(settings.items()))
        if key not in self._kept:
            with contextlib.closing(self.trainer("settings", **settings)) as trainer:
                self._kept[key] = _plain(dict(trainer.resolved)), _plain(preview(trainer, 4))
        return "\n".join(self._kept[key] if rows else self._kept[key][:1])

    def forget(self) -> None:
        """Ask for `resolved` anew."""
        self._kept.clear()

    def close(self) -> None:
        """Let go of all models."""
        for run in ("whole", "again", "otherwise", "resumed", "counted"):
            if isinstance(trained := vars(self).get(run), Trained):
                with contextlib.suppress(Exception):  # a check of its own tells
                    trained.trainer.close()


def preview(trainer: Trainer, most: int | None = None) -> list[Any]:
    """The first training rows as the model sees them."""
    rows = trainer._plan.rows.train
    return list(trainer._ready.preview(list(islice(rows, most))))


def _plain(value: object) -> str:
    """Any value as text that is the same for the same value: sets are sorted."""

    def spelt(other: object) -> object:
        return sorted(map(str, other)) if isinstance(other, set | frozenset) else str(other)

    return json.dumps(value, sort_keys=True, default=spelt)


_bench: dict[str, tuple[object, Bench]] = {}


def bench_of(suite: SuiteBase, cell: Cell, make_folder: Callable[[], Path]) -> Bench:
    """The bench of a cell; the one before is closed, so that one cell's models are in memory at a time."""
    key = (type(suite), cell)
    if "now" not in _bench or _bench["now"][0] != key:
        if "now" in _bench:
            _bench.pop("now")[1].close()
        _bench["now"] = (key, Bench(suite, cell, make_folder()))
    return _bench["now"][1]
