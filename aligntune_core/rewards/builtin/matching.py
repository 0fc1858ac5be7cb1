"""Rewards that compare a completion with a column of the row: the same text, or the same number."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from aligntune_core.errors import kind_of
from aligntune_core.rewards.values import Function, text_of

LONGEST_NUMBER = 100
"""Characters; what is longer is no number, so that a row of digits costs nothing."""

NUMBER = re.compile(
    r"(?<![A-Za-z0-9_])"  # not within a word, nor within another number
    r"(?:(?<![)\]}])[-+\u2212])?"  # a sign; after a number or a bracket it would be a minus
    r"(?<![A-Za-z0-9_])"
    r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)?"
    r"(?P<part>(?(whole)(?:\.[0-9]+)?|\.[0-9]+))"
    r"(?:[eE][-+]?[0-9]{1,3}(?![0-9]))?"
    r"(?P<below>/[0-9]+)?"
    r"(?P<percent>\s?\\?%)?"
)


def check_column(column: str) -> None:
    """Refuse what can be no column."""
    if not isinstance(column, str) or not column:
        raise ValueError(f"column is {kind_of(column)}; give the name of a column")


def by_column(column: str, score: Callable[[str, Any], float | None]) -> Function:
    """A row reward that compares the text of the completion with a column; None where that is null."""

    def reward(completion: Any, **columns: Any) -> float | None:
        expected = columns[column]
        return None if expected is None else score(text_of(completion), expected)

    reward.needs_columns = (column,)  # type: ignore[attr-defined]
    return reward


def exact_match(*, column: str = "answer", ignore_case: bool = False, collapse_whitespace: bool = True) -> Function:
    """1 where the completion is the text in a column, else 0.

    Args:
        column: the column with the right answer; a null there means that the reward does not apply.
        ignore_case: compare case-folded text.
        collapse_whitespace: compare without space at the ends, and with one space for any run of white space.
    """
    check_column(column)

    def plain(text: str) -> str:
        text = " ".join(text.split()) if collapse_whitespace else text
        return text.casefold() if ignore_case else text

    return by_column(column, lambda text, expected: float(plain(text) == plain(str(expected))))


def last_number(text: str) -> tuple[Fraction, bool] | None:
    """The last number in a text, and whether a percent sign follows it; None where there is none.

    Thousands separators (1,234.5), exponents of three digits (1e-3) and fractions of whole numbers (3/4) are read.
    A percent sign does not divide by 100.
    """
    found = deque((m for m in NUMBER.finditer(text) if m[0]), maxlen=1)
    if not found or len(found[0][0]) > LONGEST_NUMBER:
        return None
    match = found[0]
    written = match[0].removesuffix(match["percent"] or "").replace(",", "").replace("\u2212", "-")
    above, _, below = written.partition("/")
    if below and not int(below):
        return None
    return Fraction(above) / int(below or 1), match["percent"] is not None


def _expected(value: Any) -> tuple[Fraction, bool] | None:
    """The number that a column holds, as a number or within a text."""
    if getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, str):
        return last_number(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | Fraction):
        raise TypeError(f"the column holds {kind_of(value)}, which is no number")
    try:
        return Fraction(str(value)), False  # as it is written: 0.1 is a tenth
    except ValueError:  # nan, inf
        return None


def numeric_match(*, column: str = "answer", tolerance: float = 1e-6) -> Function:
    """1 where the last number in the completion is the last in a column, else 0.

    Numbers are compared exactly, as fractions, up to the tolerance. A percent sign that only one of the two has may
    mean either: 50% is 50 and 0.5. Where the column holds no number, the reward does not apply.

    Args:
        column: the column with the right answer; a number, or a text that ends with one, as GSM8K's do.
        tolerance: the largest difference that counts as none; relative to the right answer where that is above 1.
    """
    check_column(column)
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < 1:
        raise ValueError("tolerance must be at least 0 and below 1")
    allowed = Fraction(str(tolerance))

    def score(text: str, value: Any) -> float | None:
        expected, given = _expected(value), last_number(text)
        if expected is None:
            return None
        if given is None:
            return 0.0
        (right, right_percent), (number, percent) = expected, given
        near = allowed * max(Fraction(1), abs(right))
        readings = [number] if percent == right_percent else [number, number / 100 if percent else number * 100]
        return float(any(abs(reading - right) <= near for reading in readings))

    return by_column(column, score)
