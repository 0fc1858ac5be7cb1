"""Loading plugins: one bad plugin harms nobody and hides nowhere."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligntune_core import (
    AlgorithmSupport,
    Availability,
    Environment,
    PluginContractError,
    PluginLoadError,
    Support,
    TrainRequest,
    hookimpl,
)
from aligntune_core.config import SftConfig
from aligntune_core.errors import blamed
from aligntune_core.hookspecs import REQUIRED, BackendSpecs, PluginSpecs
from aligntune_core.plugins import BackendRegistry, LoadFailure
from aligntune_core.plugins.manager import specified
from aligntune_core.testing import FakeBackend, FakeDistribution, fake_entry, make_registry

CELL = ("chat_completion", "causal_lm")


def load(plugin: Any, **environ: str) -> BackendRegistry:
    """A registry of a good plugin and the one under test, called `odd`."""
    return make_registry(fake_entry("good", FakeBackend()), fake_entry("odd", plugin), environ=environ)


def failure_of(plugin: Any) -> LoadFailure:
    registry = load(plugin)
    assert list(registry.backends) == ["good"]
    return registry.failures["odd"]


class Odd(FakeBackend):
    """A backend that breaks one promise."""

    def __init__(self, claims: Any = None) -> None:
        super().__init__()
        self._claims = claims

    @hookimpl
    def provides_algorithms(self) -> Any:
        return self._claims


class WithoutBuild:
    provides_algorithms = FakeBackend.provides_algorithms
    is_available = FakeBackend.is_available


class Unmarked(FakeBackend):
    def build_trainer(self, request: TrainRequest) -> Any:
        return None


class Renamed(FakeBackend):
    @hookimpl(specname="build_trainer")
    def build_trainer(self, request: TrainRequest) -> Any:
        return None


class WithDefault(FakeBackend):
    @hookimpl
    def is_available(self, environment: Environment = Environment()) -> Availability:  # noqa: B008
        return Availability(True)


class Attribute(FakeBackend):
    build_trainer = 7  # type: ignore[assignment]


class Exploding:
    """Whatever is looked at raises, its text too."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError


class Wrapper(FakeBackend):
    """It stands around a hook instead of answering it."""

    @hookimpl(wrapper=True)
    def build_trainer(self, request: TrainRequest) -> Iterator[Any]:
        return (yield)


class Misspelt(FakeBackend):
    @hookimpl
    def is_available(self, machine: Environment) -> Availability:
        return Availability(True)


def claim(**changes: Any) -> AlgorithmSupport:
    return AlgorithmSupport(**{"algorithm": "sft", "cells": {CELL: Support("full")}} | changes)


ODD: dict[str, tuple[Any, str]] = {
    "an ImportError": (ImportError("no torch"), "imported"),
    "a SyntaxError": (SyntaxError("line 3"), "imported"),
    "a SystemExit": (SystemExit(0), "imported"),
    "a missing hook": (WithoutBuild(), "registered"),
    "a hook without a marker": (Unmarked(), "registered"),
    "a class": (FakeBackend, "registered"),
    "specname": (Renamed(), "registered"),
    "a default": (WithDefault(), "registered"),
    "an unknown argument": (Misspelt(), "registered"),
    "a wrapper": (Wrapper(), "registered"),
    "a hook that is no function": (Attribute(), "registered"),
    "an algorithm that is spelt otherwise": (Odd([claim(algorithm="drgrpo")]), "described"),
    "an unknown algorithm without its config": (Odd([claim(algorithm="own")]), "described"),
    "an unknown task": (Odd([claim(cells={("poetry", "causal_lm"): Support("full")})]), "described"),
    "a preference that is text": (Odd([claim(preference="high")]), "described"),
    "a config that is no class": (Odd([claim(config=SftConfig())]), "described"),
    "a config of another algorithm": (Odd([claim(algorithm="own", config=SftConfig)]), "described"),
    "a note of two lines": (Odd([claim(cells={CELL: Support("limited", "a\nb")})]), "described"),
    "claims without end": (Odd(claim() for _ in count()), "described"),
    "a claim that raises whatever is looked at": (Odd([Exploding()]), "described"),
    "None": (None, "registered"),
    "a number": (7, "registered"),
    "claims that are text": (Odd(["sft"]), "described"),
    "claims that are no list": (Odd(7), "described"),
    "an algorithm without a name": (Odd([claim(algorithm="")]), "described"),
    "a claim twice": (Odd([claim(), claim()]), "described"),
    "a limited cell without a note": (Odd([claim(cells={CELL: Support("limited")})]), "described"),
    "a level that is none": (Odd([claim(cells={CELL: Support("some", "x")})]), "described"),  # type: ignore[arg-type]
    "a cell that is text": (Odd([claim(cells={CELL: "full"})]), "described"),
    "a key that is no pair": (Odd([claim(cells={"sft": Support("full")})]), "described"),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_bad_plugin_is_left_out_with_its_phase_and_cause(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    plugin, phase = ODD[kind]
    assert failure_of(plugin).phase == phase
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "'odd' (aligntune-odd 1.0) is left out" in caplog.text


@pytest.mark.parametrize("kind", ODD)
def test_a_bad_plugin_that_is_asked_for_is_an_error(kind: str) -> None:
    failure = failure_of(ODD[kind][0])
    with pytest.raises((PluginLoadError, PluginContractError)) as caught:
        failure.raise_()
    assert caught.value.remedy
    assert len(str(caught.value)) < 1200
    assert caught.value is failure.error or caught.value.__cause__ is failure.error


def test_strict_raises_the_first_failure() -> None:
    with pytest.raises(PluginLoadError, match="no torch"):
        load(ImportError("no torch"), ALIGNTUNE_STRICT_PLUGINS="1")


def test_ctrl_c_while_a_plugin_loads_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        load(KeyboardInterrupt())


@pytest.mark.parametrize("name", ["auto", "Upper", "with-dash", "1st", "", "a b"])
def test_a_name_that_cannot_be_asked_for_is_refused(name: str) -> None:
    registry = make_registry(fake_entry(name, FakeBackend()))
    assert [f.phase for f in registry.failures.values()] == ["checked"]


def test_one_name_in_two_distributions_is_refused_and_names_both() -> None:
    first, second = FakeDistribution("dist-a", "1"), FakeDistribution("dist-b", "2")
    registry = make_registry(fake_entry("x", FakeBackend(), first), fake_entry("x", FakeBackend(), second))
    assert not registry.backends
    assert "'x' of dist-a 1 (fake:plugin) and 'x' of dist-b 2 (fake:plugin)" in registry.failures["x"].reason


def test_one_distribution_found_twice_is_one_plugin() -> None:
    entry = fake_entry("x", FakeBackend())
    assert list(make_registry(entry, entry).backends) == ["x"]


@pytest.mark.parametrize("requires", [("aligntune>=99",), ("torch", "aligntune<0.0.1 ; python_version > '3'")])
def test_a_plugin_for_another_aligntune_is_refused_before_import(requires: tuple[str, ...]) -> None:
    bomb = SystemError("it was imported")
    registry = make_registry(fake_entry("x", bomb, FakeDistribution(requires=requires)))
    assert registry.failures["x"].phase == "checked"
    assert "it needs aligntune" in registry.failures["x"].reason


@pytest.mark.parametrize("requires", [("aligntune>=0.0.1",), ("aligntune",), ("aligntune-other>=99",), ("torch>=99",)])
def test_a_requirement_that_holds_or_is_not_ours_is_no_obstacle(requires: tuple[str, ...]) -> None:
    assert "x" in make_registry(fake_entry("x", FakeBackend(), FakeDistribution(requires=requires)))


@pytest.mark.parametrize(
    ("environ", "left"),
    [
        ({}, ["a", "b", "c"]),
        ({"ALIGNTUNE_PLUGINS": ""}, []),
        ({"ALIGNTUNE_PLUGINS": "a, c"}, ["a", "c"]),
        ({"ALIGNTUNE_DISABLE_PLUGINS": "b"}, ["a", "c"]),
        ({"ALIGNTUNE_PLUGINS": "a,b", "ALIGNTUNE_DISABLE_PLUGINS": "b"}, ["a"]),
    ],
)
def test_the_lists_of_allowed_and_denied_plugins_act_before_import(environ: dict[str, str], left: list[str]) -> None:
    entries = [fake_entry(name, FakeBackend() if name in left else SystemError(name)) for name in "abc"]
    registry = make_registry(*entries, environ=environ)
    assert list(registry.backends) == left
    assert not registry.failures


@given(st.permutations(range(6)))
def test_the_order_in_which_plugins_are_found_means_nothing(order: list[int]) -> None:
    entries = [fake_entry(f"b{n}", FakeBackend(preference=n % 2)) for n in range(4)]
    entries += [fake_entry("bad", ImportError("x")), fake_entry("worse", 7)]
    registry = make_registry(*(entries[n] for n in order))
    assert list(registry.backends) == ["b0", "b1", "b2", "b3"]
    assert [(f.name, f.reason) for f in registry.failures.values()] == [("bad", "ImportError: x"), _worse(registry)]


def _worse(registry: BackendRegistry) -> tuple[str, str]:
    return "worse", registry.failures["worse"].reason


class Loud(FakeBackend):
    @hookimpl
    def provides_algorithms(self) -> list[AlgorithmSupport]:
        print("noise of provides_algorithms")
        return [claim()]

    @hookimpl
    def is_available(self, environment: Environment) -> Availability:
        print("noise of is_available")
        return Availability(True)


def test_what_a_plugin_prints_never_spoils_our_output(capfd: pytest.CaptureFixture[str]) -> None:
    load(Loud()).backends["odd"].is_available(Environment())
    out, err = capfd.readouterr()
    assert out == ""
    assert "noise of provides_algorithms" in err
    assert "noise of is_available" in err


class Unsure(FakeBackend):
    """A backend whose verdict is no verdict."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self._answer = answer

    @hookimpl
    def is_available(self, environment: Environment) -> Any:
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ValueError("oops"), "is_available() raised ValueError: oops"),
        (SystemExit(3), "is_available() tried to end the process with 3 (aligntune-odd 1.0)"),
        (None, "is_available() gave NoneType"),
        (True, "is_available() gave bool"),
        (Availability(False), "is_available() said no without a reason and a remedy"),
    ],
)
def test_a_verdict_that_is_none_means_not_available_and_says_why(answer: Any, reason: str) -> None:
    verdict = load(Unsure(answer)).backends["odd"].is_available(Environment())
    assert not verdict.ok
    assert verdict.reason == reason
    assert verdict.remedy


def request() -> TrainRequest:
    return TrainRequest(
        algorithm="sft", task=CELL[0], model_type=CELL[1], config=SftConfig(), environment=Environment()
    )


class Builds(FakeBackend):
    """A backend that gives what it is told to."""

    def __init__(self, trainer: Any) -> None:
        super().__init__()
        self._trainer = trainer

    @hookimpl
    def build_trainer(self, request: TrainRequest) -> Any:
        if isinstance(self._trainer, BaseException):
            raise self._trainer
        return self._trainer


@pytest.mark.parametrize("trainer", [None, 7, object()])
def test_a_trainer_that_is_none_breaks_the_contract(trainer: Any) -> None:
    with pytest.raises(PluginContractError, match="which is no BackendTrainer"):
        load(Builds(trainer)).backends["odd"].build_trainer(request())


def test_a_plugin_that_exits_while_it_builds_does_not_look_like_success() -> None:
    with pytest.raises(PluginContractError, match="tried to end the process with 0"):
        load(Builds(SystemExit(0))).backends["odd"].build_trainer(request())


def test_an_error_in_a_hook_says_whose_it_is() -> None:
    with pytest.raises(ValueError, match="oops") as caught:
        load(Builds(ValueError("oops"))).backends["odd"].build_trainer(request())
    assert blamed(caught.value) == "build_trainer() of the backend 'odd' (aligntune-odd 1.0)"


def test_tracing_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    load(FakeBackend(), ALIGNTUNE_TRACE_PLUGINS="1")
    out, err = capfd.readouterr()
    assert out == ""
    assert "provides_algorithms" in err


def test_a_backend_lists_the_hooks_that_it_has() -> None:
    assert load(FakeBackend()).backends["odd"].hooks == [*REQUIRED, "build_preview", "tiny_model", "open_model"]


@pytest.mark.parametrize(("specs", "hook"), [(s, hook) for s in (BackendSpecs, PluginSpecs) for hook in specified(s)])
def test_each_hooks_text_has_every_part_and_a_whole_example(specs: type, hook: str) -> None:
    text = inspect.getdoc(getattr(specs, hook)) or ""
    assert all(part in text for part in ("Returns:", "Rules:", "Example:", "@hookimpl", f"def {hook}("))


def test_a_module_can_be_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_plugin.py").write_text(TOY, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("toy_plugin")
    monkeypatch.delitem(sys.modules, "toy_plugin")
    backend = load(module).backends["odd"]
    assert list(backend.algorithms) == ["sft"]
    assert backend.hooks == list(REQUIRED)
    assert backend.tiny_model("causal_lm", tmp_path / "m") is False


TOY = """
from aligntune_core import AlgorithmSupport, Availability, Support, hookimpl

@hookimpl
def provides_algorithms():
    return [AlgorithmSupport(algorithm="sft", cells={("chat_completion", "causal_lm"): Support("full")})]

@hookimpl
def is_available():
    return Availability(True)

@hookimpl
def build_trainer(request):
    raise NotImplementedError
"""
