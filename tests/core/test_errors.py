"""The errors: one line a problem, one exit code a class."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aligntune_core
from aligntune_core import errors
from aligntune_core.errors import AlignTuneError, ConfigError, Problem, RunInterrupted

CONTRACT = {
    "AlignTuneError": (1, Exception),
    "ConfigError": (2, ValueError),
    "UnknownAlgorithmError": (2, ValueError),
    "UnknownBackendError": (2, ValueError),
    "UnsupportedAlgorithmError": (2, ValueError),
    "DataError": (2, ValueError),
    "BackendUnavailableError": (3, ImportError),
    "NoBackendError": (3, ImportError),
    "PluginLoadError": (3, ImportError),
    "WorkerDiedError": (3, RuntimeError),
    "PluginContractError": (3, TypeError),
    "RewardError": (4, RuntimeError),
    "DivergedError": (5, ArithmeticError),
    "StorageError": (6, OSError),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_each_class_has_the_exit_code_and_the_base_of_the_contract(name: str) -> None:
    code, base = CONTRACT[name]
    cls = getattr(aligntune_core, name)
    assert (cls.exit_code, issubclass(cls, base), issubclass(cls, AlignTuneError)) == (code, True, True)


def test_the_contract_lists_every_class() -> None:
    classes = {n for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, AlignTuneError)}
    assert classes == set(CONTRACT)


def test_every_class_stands_in_the_tree_at_the_top_of_the_module() -> None:
    assert all(f" {name} " in (errors.__doc__ or "") for name in CONTRACT)


def test_the_text_is_field_value_problem_and_remedy() -> None:
    error = ConfigError("must be a number", "leave it out", field="lora_r", value="x")
    assert str(error) == "lora_r = 'x': must be a number; leave it out"
    assert (error.field, error.value, error.problem, error.remedy) == (
        "lora_r",
        "x",
        "must be a number",
        "leave it out",
    )


def test_parts_that_are_not_known_leave_no_trace() -> None:
    assert str(ConfigError("is missing", field="model_name")) == "model_name: is missing"
    assert str(ConfigError("went wrong")) == "went wrong"


def test_a_value_of_none_is_shown() -> None:
    assert str(ConfigError("is empty", field="split", value=None)) == "split = None: is empty"


def test_several_problems_are_one_line_each() -> None:
    error = ConfigError([Problem.of("a", "bad", value=1), Problem.of("b", "worse", value=2)])
    assert str(error).splitlines() == ["a = 1: bad", "b = 2: worse"]
    assert error.field == "a"


HUGE = {
    "text": "x" * 10**7,
    "bytes": b"x" * 10**7,
    "number": 10**5000,
    "lists": [["y" * 99] * 9] * 9,
    "mappings": {"k" * 99: {"z" * 99: "w" * 99}},
}


@pytest.mark.parametrize("value", HUGE.values(), ids=HUGE)
def test_a_huge_value_is_one_short_line(value: object) -> None:
    text = str(ConfigError("is wrong", "mend it", field="model_name", value=value))
    assert len(text) < 200
    assert "\n" not in text


class Unfriendly:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_a_value_that_cannot_be_shown_does_no_harm() -> None:
    assert "Unfriendly" in str(ConfigError("is wrong", value=Unfriendly()))


@given(st.text(), st.text(), st.text())
def test_no_text_breaks_a_line_or_reaches_a_terminal_raw(value: str, problem: str, remedy: str) -> None:
    text = str(ConfigError(problem, remedy, field="f", value=value))
    assert all(character.isprintable() for character in text)


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_an_interrupted_run_ends_with_the_shells_code(number: int, code: int) -> None:
    error = RunInterrupted("go on with …", number)
    assert error.exit_code == code
    assert isinstance(error, KeyboardInterrupt)
