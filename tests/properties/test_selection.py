"""Choosing the backend, over installations of every shape: the rule is written down here a second time, plainly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligntune_core import AlgorithmSupport, Availability, Environment, Support
from aligntune_core.errors import (
    AlignTuneError,
    BackendUnavailableError,
    NoBackendError,
    UnsupportedAlgorithmError,
)
from aligntune_core.installed import build_matrix, choose
from aligntune_core.matrix import SupportMatrix
from aligntune_core.selector import Selection, select
from aligntune_core.testing import FakeBackend, fake_entry, make_registry
from aligntune_core.values import MODEL_TYPES, TASKS

NAMES = ["a", "b", "c", "d", "trl", "unsloth"]
ALGORITHMS = ["sft", "dpo"]
SOME = [(TASKS[0], MODEL_TYPES[0]), (TASKS[0], MODEL_TYPES[1]), (TASKS[3], MODEL_TYPES[0]), (TASKS[4], MODEL_TYPES[3])]
LEVELS = ["full", "limited", "no"]
Cell = tuple[str, str]


@dataclass(frozen=True)
class Installed:
    """One backend: algorithm → (preference, cell → level), and whether it can run."""

    claims: Mapping[str, tuple[int, Mapping[Cell, str]]]
    ok: bool

    def level(self, algorithm: str, task: str | None, model_type: str | None) -> str:
        """The best level of the cells that fit."""
        cells = self.claims.get(algorithm, (0, {}))[1].items()
        fit = [level for (t, m), level in cells if task in (None, t) and model_type in (None, m)]
        return min(fit, key=LEVELS.index, default="no")

    @property
    def supports(self) -> dict[str, AlgorithmSupport]:
        return {
            algorithm: AlgorithmSupport(
                algorithm=algorithm,
                preference=preference,
                cells={cell: support(level) for cell, level in cells.items()},
            )
            for algorithm, (preference, cells) in self.claims.items()
        }


def support(level: Any) -> Support:
    return Support(level, "" if level == "full" else f"is {level}")


CELLS = st.dictionaries(st.sampled_from(SOME), st.sampled_from(LEVELS), max_size=3)
CLAIMS = st.dictionaries(st.sampled_from(ALGORITHMS), st.tuples(st.integers(-1, 1), CELLS), max_size=2)
INSTALLED = st.dictionaries(st.sampled_from(NAMES), st.builds(Installed, CLAIMS, st.booleans()), max_size=4)
WANTED = st.fixed_dictionaries(
    {
        "algorithm": st.sampled_from(ALGORITHMS),
        "task": st.none() | st.sampled_from(TASKS),
        "model_type": st.none() | st.sampled_from(MODEL_TYPES),
    }
)


def verdict(backend: Installed) -> Availability:
    return Availability(True) if backend.ok else Availability(False, "it is ill", "mend it")


def pick(installed: Mapping[str, Installed], backend: str, wanted: Mapping[str, Any], asked: list[str]) -> Selection:
    def ask(name: str) -> Availability:
        asked.append(name)
        return verdict(installed[name])

    return select(SupportMatrix({n: b.supports for n, b in installed.items()}, {}), ask, backend=backend, **wanted)


def outcome(installed: Mapping[str, Installed], backend: str, wanted: Mapping[str, Any]) -> object:
    try:
        return pick(installed, backend, wanted, [])
    except AlignTuneError as error:
        return type(error), str(error)


def able(installed: Mapping[str, Installed], wanted: Mapping[str, Any]) -> list[str]:
    """Who trains it, the one that `auto` prefers first."""

    def rank(name: str) -> tuple[int, int, str]:
        preference = installed[name].claims[wanted["algorithm"]][0]
        return LEVELS.index(installed[name].level(**wanted)), -preference, name

    return sorted((name for name in installed if installed[name].level(**wanted) != "no"), key=rank)


@settings(max_examples=600)
@given(INSTALLED, WANTED)
def test_auto_takes_the_first_that_can_run_by_level_preference_and_name(
    installed: dict[str, Installed], wanted: dict[str, Any]
) -> None:
    asked: list[str] = []
    order = able(installed, wanted)
    fit = [name for name in order if installed[name].ok]
    if not fit:
        with pytest.raises(NoBackendError) as caught:
            pick(installed, "auto", wanted, asked)
        assert caught.value.remedy
        assert asked == order
        return
    selection = pick(installed, "auto", wanted, asked)
    assert (selection.backend, selection.asked) == (fit[0], "auto")
    assert asked == order[: order.index(fit[0]) + 1]  # each candidate once, and nobody after the one that is taken
    assert {r.backend for r in selection.rejected} == ({*installed, "trl", "unsloth"} - {fit[0]})
    assert selection.note == ("is limited" if installed[fit[0]].level(**wanted) == "limited" else "")


@settings(max_examples=600)
@given(INSTALLED, WANTED, st.sampled_from(["trl", "unsloth"]))
def test_a_backend_that_was_named_is_taken_or_refused_and_never_replaced(
    installed: dict[str, Installed], wanted: dict[str, Any], name: str
) -> None:
    asked: list[str] = []
    if name in installed and installed[name].ok and installed[name].level(**wanted) != "no":
        selection = pick(installed, name, wanted, asked)
        assert (selection.backend, selection.rejected, asked) == (name, (), [name])
        return
    with pytest.raises((UnsupportedAlgorithmError, BackendUnavailableError)) as caught:
        pick(installed, name, wanted, asked)
    assert caught.value.remedy
    assert set(asked) <= {name}


@settings(max_examples=600)
@given(INSTALLED, WANTED, st.sampled_from(["auto", "trl"]), st.randoms(use_true_random=False))
def test_the_order_of_backends_and_cells_means_nothing(
    installed: dict[str, Installed], wanted: dict[str, Any], name: str, random: Any
) -> None:
    def shuffled(mapping: Mapping[Any, Any]) -> dict[Any, Any]:
        items = list(mapping.items())
        random.shuffle(items)
        return dict(items)

    other = {
        n: Installed(shuffled({a: (p, shuffled(cells)) for a, (p, cells) in b.claims.items()}), b.ok)
        for n, b in shuffled(installed).items()
    }
    assert outcome(other, name, wanted) == outcome(installed, name, wanted)


class Claiming(FakeBackend):
    """A backend that claims what an `Installed` says."""

    def __init__(self, installed: Installed) -> None:
        super().__init__(verdict=verdict(installed))
        self.supports = installed.supports

    def provides_algorithms(self) -> Any:
        return list(self.supports.values())

    provides_algorithms.__dict__.update(FakeBackend.provides_algorithms.__dict__)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.builds(Installed, CLAIMS, st.booleans())), WANTED)
def test_what_is_loaded_is_chosen_by_the_same_rule(installed: dict[str, Installed], wanted: dict[str, Any]) -> None:
    registry = make_registry(*(fake_entry(name, Claiming(one)) for name, one in installed.items()))
    matrix = build_matrix(registry, Environment())
    told = {(c["backend"], c["algorithm"], c["task"], c["model_type"]): c["level"] for c in matrix.cells}
    assert told == {
        (name, algorithm, *cell): level
        for name, one in installed.items()
        for algorithm, (_, cells) in one.claims.items()
        for cell, level in cells.items()
    }
    fit = [name for name in able(installed, wanted) if installed[name].ok]
    what = (wanted["algorithm"].upper(), "AUTO", wanted["task"], wanted["model_type"])
    if fit:
        assert choose(registry, Environment(), *what)[1].backend == fit[0]
    else:
        with pytest.raises(NoBackendError):
            choose(registry, Environment(), *what)
