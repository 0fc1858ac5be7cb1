"""No check is lost in silence: one that is left out, replaced or skipped says why, in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import pytest

F = TypeVar("F", bound=Callable[..., Any])

_REASON = "__replaces__"
FEWEST_WORDS = 3
GENERATOR = "pytest_generate_tests"


def _is_sentence(reason: object) -> bool:
    return isinstance(reason, str) and len(reason.split()) >= FEWEST_WORDS


def replaces(reason: str) -> Callable[[F], F]:
    """Mark a check of your class that stands in the place of one of the suite.

    Args:
        reason: why the suite's own does not fit, a sentence.

    Raises:
        TypeError: the reason is no sentence.
    """
    if not _is_sentence(reason):
        raise TypeError(f"@replaces({reason!r}): say in a sentence why the suite's check does not fit")

    def mark(function: F) -> F:
        setattr(function, _REASON, reason)
        return function

    return mark


def _owner(cls: type, name: str) -> type:
    return next(base for base in cls.__mro__ if name in vars(base))


def check_replaced(cls: type, suite: type) -> None:
    """Refuse checks of the suite that a subclass defines anew, or takes away, without `@replaces`.

    Raises:
        TypeError: with the name of the check.
    """
    for name in (n for n in dir(suite) if n.startswith("test_") or n == GENERATOR):
        owner = _owner(cls, name)
        if not issubclass(suite, owner) and not hasattr(vars(owner)[name], _REASON):
            remedy = f'decorate it with @replaces("…"), or name it in left_out = {{"{name}": "…"}} with the reason'
            raise TypeError(
                f"{cls.__name__}.{name} takes the place of a check of the suite and does not say why: {remedy}"
            )


def check_left_out(cls: type, suite: type, left_out: Mapping[str, str]) -> None:
    """Refuse a `left_out` that names no check of the suite, or gives no reason.

    Raises:
        TypeError: with the name of the check.
    """
    for name, reason in left_out.items():
        test = name.partition("[")[0]
        if not test.startswith("test_") or not callable(getattr(suite, test, None)):
            raise TypeError(f"{cls.__name__}.left_out names '{name}', which is no check of the suite: correct the name")
        if not _is_sentence(reason):
            raise TypeError(f"{cls.__name__}.left_out['{name}'] = {reason!r}: say in a sentence why it is left out")


def check_marks(cls: type, marks: Iterable[pytest.Mark]) -> None:
    """Refuse marks that skip checks and do not say why.

    Raises:
        TypeError: with the mark.
    """
    for mark in marks:
        if mark.name not in ("skip", "skipif", "xfail"):
            continue
        first = mark.args[0] if mark.name == "skip" and mark.args else None
        if not _is_sentence(mark.kwargs.get("reason", first)):
            remedy = f'write pytest.mark.{mark.name}(…, reason="a sentence")'
            raise TypeError(f"{cls.__name__} is marked {mark.name} and does not say why: {remedy}")


def marks_of(cls: type) -> list[pytest.Mark]:
    """What `pytestmark` in the body of a class says."""
    given = vars(cls).get("pytestmark", [])
    marks = given if isinstance(given, list | tuple) else [given]
    return [mark.mark if isinstance(mark, pytest.MarkDecorator) else mark for mark in marks]


def reason_for(left_out: Mapping[str, str], test: str, node: str) -> str | None:
    """Why a check is left out: as a whole, or with these parameters; None where it is not.

    Args:
        left_out: the class's own table.
        test: the check's name.
        node: the check's name with its parameters.
    """
    return left_out.get(node, left_out.get(test))


def check_parameters(cls: type, left_out: Mapping[str, str], test: str, ids: Iterable[str]) -> None:
    """Refuse a `left_out` that names parameters which a check does not have.

    Raises:
        TypeError: with those that there are.
    """
    known = {f"{test}[{one}]" for one in ids}
    for name in left_out:
        if name.startswith(f"{test}[") and name not in known:
            there = ", ".join(sorted(known)) or f"{test}, without parameters"
            raise TypeError(f"{cls.__name__}.left_out names '{name}', which there is not; there are: {there}")
