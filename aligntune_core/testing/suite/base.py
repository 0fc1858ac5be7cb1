"""What every part of the suite shares: what an author may set, and for what there are checks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary

import pytest

from aligntune_core import installed
from aligntune_core.checks import config_class
from aligntune_core.config import CORE_SETTINGS, RolloutConfig, TrainingConfig
from aligntune_core.discovery import Entry
from aligntune_core.environment import detect
from aligntune_core.plugins import Backend, BackendRegistry, load_registry
from aligntune_core.testing.entry_points import fake_entry, make_registry
from aligntune_core.testing.suite import reasons, samples
from aligntune_core.testing.suite.checking import broken
from aligntune_core.testing.suite.samples import Other, Row
from aligntune_core.values import MODEL_TYPES, TASKS, AlgorithmSupport, Availability

F = TypeVar("F", bound=Callable[..., Any])

USUAL: Mapping[str, Any] = {
    "max_steps": 10,
    "batch_size": 4,
    "gradient_accumulation_steps": 1,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "max_seq_length": 128,
    "seed": 7,
}
"""What the suite trains with, as far as the backend claims it."""

_registries: WeakKeyDictionary[type, BackendRegistry] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """Something that the backend claims to train."""

    algorithm: str
    task: str
    model_type: str

    def __str__(self) -> str:
        return f"{self.algorithm}-{self.task}-{self.model_type}"


def needs(setting: str) -> Callable[[F], F]:
    """Mark a check as one of backends that claim a setting."""

    def mark(function: F) -> F:
        function.__needs__ = setting  # type: ignore[attr-defined]
        return function

    return mark


class SuiteBase:
    """Subclass `BackendSuite`, not this.

    Attributes:
        backend: the name of the entry point; its package is installed.
        plugin: instead of an installed package, the plugin itself: an object, a module, or an `Entry`.
        settings: settings for every training, beside the usual ones; None takes a usual one away.
        other_values: setting → another valid value than the usual one (or an `Other`), to see that it is honoured.
        left_out: check → why it does not hold for this backend, a sentence. `test_x` or `test_x[parameters]`.
        only: names of algorithms or cells; empty: everything that is claimed. A class of few, to be quick; another of
            everything must stand beside it.
        tolerance: relative difference at which two losses still count as the same.
    """

    backend: ClassVar[str] = ""
    plugin: ClassVar[object] = None
    settings: ClassVar[Mapping[str, Any]] = {}
    other_values: ClassVar[Mapping[str, Any]] = {}
    left_out: ClassVar[Mapping[str, str]] = {}
    only: ClassVar[Collection[str]] = ()
    tolerance: ClassVar[float] = 1e-5

    # what an author may override

    def rows(self, algorithm: str, task: str) -> list[Row]:
        """About 22 rows, in a format that core reads, for an algorithm and a task."""
        return samples.rows_for(self.config_of(algorithm).rows, task)

    def inputs(self, algorithm: str, task: str) -> list[Any]:
        """Three questions for `predict`; for a reward model, three questions with an answer."""
        asked = samples.scored if algorithm == "reward" else samples.question_of
        return [asked(row) for row in self.rows(algorithm, task)[:3]]

    def write_model(self, model_type: str, path: Path) -> bool:
        """Write a tiny untrained model to `path`, the same at each call; False where there is none of that type."""
        return self.found.tiny_model(model_type, path)

    def steps_of_an_epoch(self, config: TrainingConfig, rows: int) -> int:
        """Optimiser steps of one pass over so many rows."""
        if isinstance(config, RolloutConfig):
            prompts = config.batch_size * config.generation_steps // config.num_generations
            return rows // prompts * config.rollout_steps
        return -(-rows // (config.batch_size * config.gradient_accumulation_steps))

    def worth(self, algorithm: str, evaluation: Mapping[str, float]) -> float | None:
        """The number of an evaluation that training raises: the loss, negated, or the reward."""
        rewarded = self.config_of(algorithm).rows == "prompts"
        number = evaluation.get("eval_reward" if rewarded else "eval_loss")
        return number if number is None or rewarded else -number

    # what the checks ask

    @classmethod
    def registry(cls) -> BackendRegistry:
        """The registry that holds the backend: the installed one, or one that is made of `plugin`."""
        if cls not in _registries:
            if not cls.backend:
                raise TypeError(f'{cls.__name__} does not say which backend it checks: set backend = "…"')
            _registries[cls] = cls.fresh_registry()
        return _registries[cls]

    @classmethod
    def fresh_registry(cls) -> BackendRegistry:
        """Load the backend, and so ask it anew what it trains."""
        if cls.plugin is None:
            return load_registry()
        entry = cls.plugin if isinstance(cls.plugin, Entry) else fake_entry(cls.backend, cls.plugin)
        return make_registry(entry)

    @property
    def found(self) -> Backend:
        """The loaded backend."""
        found = self.registry().backends.get(self.backend)
        if found is None:
            broken(f"the backend '{self.backend}' is not usable", "see test_it_is_found_and_loads")
        return found

    @classmethod
    def claims(cls) -> dict[str, AlgorithmSupport]:
        """What it claims, sorted by algorithm; empty where it does not load."""
        found = cls.registry().backends.get(cls.backend)
        return dict(sorted(found.algorithms.items())) if found else {}

    @classmethod
    def cells(cls) -> list[Cell]:
        """Every cell that it claims to train, fully or in part, sorted."""
        return sorted(
            Cell(name, *pair)
            for name, claim in cls.claims().items()
            for pair, s in claim.cells.items()
            if s.level != "no"
        )

    @classmethod
    def chosen(cls) -> list[Cell]:
        """The cells that are checked: all, or those of `only`."""
        return [cell for cell in cls.cells() if not cls.only or {cell.algorithm, str(cell)} & set(cls.only)]

    @classmethod
    def first_cell(cls, algorithm: str) -> Cell | None:
        """The cell on which the settings of an algorithm are checked: with rows of messages, where there is one."""
        order = ["chat_completion", "instruction_following", *TASKS]
        mine = [cell for cell in cls.chosen() if cell.algorithm == algorithm]
        return min(mine, key=lambda cell: (order.index(cell.task), MODEL_TYPES.index(cell.model_type)), default=None)

    def config_of(self, algorithm: str) -> type[TrainingConfig]:
        """The class of an algorithm's settings."""
        return config_class(algorithm, self.found)

    def honoured(self, algorithm: str) -> frozenset[str]:
        """The settings that may be given: those that the backend claims, and those of core."""
        return (self.claims()[algorithm].settings | CORE_SETTINGS) & set(self.config_of(algorithm).model_fields)

    def usual(self, algorithm: str) -> dict[str, Any]:
        """The settings of every training."""
        honoured = self.honoured(algorithm)
        usual = {**USUAL, **samples.USUAL[self.config_of(algorithm).rows]}
        wanted = {**{name: value for name, value in usual.items() if name in honoured}, **self.settings}
        return {name: value for name, value in wanted.items() if value is not None}

    def other_value(self, algorithm: str, name: str) -> Other:
        """Another valid value of a setting: the author's, the suite's, or one that its type suggests."""
        known = {**samples.OTHER, **samples.YOURS}.get(name, Other(None))
        if name in self.other_values:
            given = self.other_values[name]
            return given if isinstance(given, Other) else replace(known, value=given)
        if name in samples.OTHER:
            return known
        value = None if name in samples.YOURS else samples.another_value(self.config_of(algorithm), name)
        if value is None:
            remedy = f"set other_values = {{'{name}': …}} to a valid value that is not the default"
            why = known.value or "its type does not tell"
            broken(f"the suite knows no other value of '{name}' to see whether it is honoured: {why}", remedy)
        return Other(value)

    def verdict_here(self) -> Availability:
        """Whether the backend can run on this machine."""
        return _verdict(self.found)

    # how pytest makes the checks

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One check for each thing that the backend claims."""
        test, cls = metafunc.definition.originalname, type(self)
        reasons.check_marks(cls, metafunc.definition.iter_markers())
        argument = next((name for name in metafunc.fixturenames if name in PARAMETERS), None)
        values = self._values(argument, getattr(metafunc.function, "__needs__", None)) if argument else []
        reasons.check_parameters(cls, self.left_out, test, map(str, values))
        if argument and values:
            metafunc.parametrize(argument, values, ids=map(str, values), scope="class")
        elif argument:
            nothing = pytest.mark.skip(reason="the backend claims nothing of which this could be asked")
            metafunc.parametrize(argument, [pytest.param(None, marks=nothing, id="nothing")])

    def _values(self, argument: str, needed: str | None) -> list[Any]:
        """What a check with this argument is made for, if it is one of those that need a setting to be claimed."""
        return [value for value in PARAMETERS[argument](self) if needed is None or _has(self, value, needed)]

    @pytest.fixture(autouse=True)
    def _as_installed(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Leave out what the author leaves out; for the others, the class's registry is the installed one."""
        if reason := reasons.reason_for(self.left_out, request.node.originalname, request.node.name):
            pytest.skip(reason)
        registry = self.registry()
        monkeypatch.setattr(installed, "load_registry", lambda: registry)
        installed.forget_registry()
        yield
        installed.forget_registry()


@lru_cache(maxsize=1)
def _verdict(backend: Backend) -> Availability:
    return backend.is_available(detect())


@dataclass(frozen=True, slots=True)
class Asked:
    """A setting of an algorithm."""

    algorithm: str
    name: str

    def __str__(self) -> str:
        return f"{self.algorithm}-{self.name}"


def _settings(suite: SuiteBase) -> list[Asked]:
    found = []
    for algorithm, claim in suite.claims().items():
        if suite.first_cell(algorithm) is not None:
            proved = CORE_SETTINGS | (claim.settings & set(samples.ELSEWHERE))
            found += [Asked(algorithm, n) for n in suite.config_of(algorithm).model_fields if n not in proved]
    return found


def _rhythms(suite: SuiteBase) -> list[Asked]:
    names = ("logging_steps", "save_steps", "eval_steps")
    return [
        asked for asked in _settings(suite) if asked.name in names and asked.name in suite.honoured(asked.algorithm)
    ]


def _has(suite: SuiteBase, value: Any, setting: str) -> bool:
    algorithm = value if isinstance(value, str) else value.algorithm
    return setting in suite.honoured(algorithm)


PARAMETERS: Mapping[str, Callable[[SuiteBase], list[Any]]] = {
    "algorithm": lambda suite: [name for name in suite.claims() if not suite.only or suite.first_cell(name)],
    "cell": lambda suite: suite.chosen(),
    "model_type": lambda suite: sorted({cell.model_type for cell in suite.chosen()}),
    "setting": _settings,
    "rhythm": _rhythms,
    "system": lambda suite: ["linux", "darwin", "win32"],
}
"""Argument of a check → what it is made for. The order is the same in every process."""
