"""What a reward function may give back: one number, or None, for each completion."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from itertools import islice
from numbers import Real
from typing import Any

from aligntune_core.errors import kind_of
from aligntune_core.rewards.values import AtRow

LARGEST = 3.4028234663852886e38
"""The largest 32-bit float: rewards are summed in that precision."""


class WrongResultError(Exception):
    """The whole of what was given is of no use."""


def score(value: Any) -> float | None:
    """One reward. Numbers, truth values and scalars of array libraries count; None means: does not apply.

    Raises:
        ValueError: it is nothing of this; the text says what it is.
    """
    if value is None:
        return None
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, Real):
        return _finite(value)
    raise ValueError(f"it gave {kind_of(value)} instead of a number")


def _finite(value: Any) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"it gave {number}")
    if abs(number) > LARGEST:
        raise ValueError(f"it gave {number:g}, which is too large for a 32-bit number")
    return number


def _listed(result: Any, count: int) -> list[Any]:
    """The values one by one; of what yields them as it goes, no more than can be wanted."""
    shape = getattr(result, "shape", None)
    if shape and hasattr(result, "tolist"):
        result = result.tolist()  # numpy, torch, pandas: one copy instead of one for each element
    if isinstance(result, str | bytes | Mapping | Set) or not isinstance(result, Iterable) or shape == ():
        what = kind_of(result) if result is not None else "nothing"
        raise WrongResultError(f"it gave {what} instead of a list of {count} numbers")
    return list(islice(iter(result), count + 1))


def scores(result: Any, count: int) -> list[float | None]:
    """A function's result for a batch, checked. It iterates over the result, so it runs in the function's thread.

    Raises:
        WrongResultError: it is no list, or one of another length.
        AtRow: one of its values is no finite number; the cause says what.
    """
    values = _listed(result, count)
    if len(values) != count:
        many = f"{len(values)} values" if len(values) <= count else f"more than {count}"
        raise WrongResultError(f"it gave {many} for {count} completions")
    checked: list[float | None] = []
    for index, value in enumerate(values):
        try:
            checked.append(score(value))
        except ValueError as error:
            raise AtRow(index, str(error)) from None
    return checked
