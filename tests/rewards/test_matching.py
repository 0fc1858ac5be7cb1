"""exact_match and numeric_match: what equals what, and that nothing a model writes can cost much."""

from __future__ import annotations

import time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aligntune_core.errors import ConfigError
from aligntune_core.rewards.builtin.matching import last_number, numeric_match
from aligntune_core.rewards.resolve import resolve

from .conftest import Score

TEXT = st.text(st.characters(exclude_characters="0123456789%/\\.,-+\u2212eE_" + ")]}"), max_size=20).filter(
    lambda text: not text[-1:].isalnum()
)


@given(st.text(), st.text())
def test_exact_match_is_equality_of_the_collapsed_texts(one: str, other: str) -> None:
    function = resolve(["exact_match"])[0].function
    assert function(completion=one, answer=other) == float(one.split() == other.split())
    assert function(completion=f" {one}\n", answer=one) == 1.0


def test_exact_match_has_options(score: Score) -> None:
    texts, gold = ["Paris", " paris", "Paris\n"], ["Paris"] * 3
    assert score("exact_match", texts, answer=gold) == [1.0, 0.0, 1.0]
    assert score({"name": "exact_match", "ignore_case": True}, texts, answer=gold) == [1.0, 1.0, 1.0]
    assert score({"name": "exact_match", "collapse_whitespace": False}, texts, answer=gold) == [1.0, 0.0, 0.0]
    assert score({"name": "exact_match", "column": "gold"}, texts, gold=["Paris", None, 7]) == [1.0, None, 0.0]


def grouped(number: Decimal) -> str:
    return f"{number:,f}"


WRITTEN = [str, grouped, "{:+f}".format, "{:e}".format, lambda n: str(n).replace("-", "\u2212")]


@given(
    st.decimals(-(10**12), 10**12, places=4, allow_nan=False, allow_infinity=False),
    st.sampled_from(WRITTEN),
    TEXT,
    TEXT,
    st.integers(-99, 99),
)
@example(Decimal("-1234567.8900"), grouped, "costs ", ".", 0)
@example(Decimal("0.0001"), str, "$", "", 5)
def test_a_number_is_read_however_it_is_written(
    number: Decimal, write: Any, before: str, after: str, other: int
) -> None:
    assert last_number(f"{other} {before}{write(number)}{after}") == (Fraction(number), False)


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_a_fraction_is_read_exactly(above: int, below: int) -> None:
    assert last_number(f"x = {above}/{below}") == (Fraction(above, below), False)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5-3", 3),
        ("5 -3", -3),
        ("(2)-3", 3),
        ("x=-3", -3),
        ("1, 2, 3", 3),
        ("1,2,3", 3),
        ("1,234", 1234),
        ("1,2345", 2345),
        ("12,345,67", 67),
        ("It is 42.", 42),
        (".5", Fraction(1, 2)),
        ("3.11.2", 2),
        ("2e3", 2000),
        ("$1,000.50 in all", Fraction(2001, 2)),
        ("1/2/3", 3),
        ("#### 18", 18),
        ("GPT4", None),
        ("H2O", None),
        ("1e9999", 1),
        ("1/0", None),
        ("none", None),
        ("", None),
        ("\u0664\u0662", None),
        ("9" * 101, None),
    ],
)
def test_the_last_number_in_a_text(text: str, number: Any) -> None:
    found = last_number(text)
    assert (None if found is None else found[0]) == number


@pytest.mark.parametrize(
    ("completion", "answer", "expected"),
    [
        ("It is 42.", 42, 1.0),
        ("It is 42.", "The sum is\n#### 42", 1.0),
        ("0.30000000000000004", 0.3, 1.0),
        ("1/3", 0.3333333, 1.0),
        ("33.4", 33.3, 0.0),
        ("1,000,001", 1e6, 1.0),
        ("1,000,002", 1e6, 0.0),
        ("50%", "50%", 1.0),
        ("50%", 50, 1.0),
        ("50%", 0.5, 1.0),
        ("50", "50 %", 1.0),
        ("0.5", "50\\%", 1.0),
        ("5%", 0.5, 0.0),
        ("7", Decimal("7.0"), 1.0),
        ("7", np.int64(7), 1.0),
        ("no idea", 7, 0.0),
        ("7", "seven", None),
        ("7", None, None),
        ("7", float("nan"), None),
        ("nan", float("inf"), None),
    ],
)
def test_a_completion_is_right_where_its_last_number_is(completion: str, answer: Any, expected: float | None) -> None:
    assert numeric_match()(completion=completion, answer=answer) == expected


@given(st.fractions(-1000, 1000), st.fractions(-1000, 1000), st.floats(0, 0.5))
def test_the_tolerance_is_absolute_below_one_and_relative_above(
    gold: Fraction, given: Fraction, tolerance: float
) -> None:
    near = abs(given - gold) <= Fraction(str(tolerance)) * max(1, abs(gold))
    text = f"{given.numerator}/{given.denominator}"
    assert numeric_match(tolerance=tolerance)(completion=text, answer=gold) == float(near)


@pytest.mark.parametrize(
    "options", [{"tolerance": -1}, {"tolerance": float("nan")}, {"tolerance": True}, {"column": ""}]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"reward_functions = 'numeric_match': (tolerance|column)"):
        resolve([{"name": "numeric_match", **options}])


@given(st.text("0123456789,./-+eE%_ \\", max_size=300))
def test_no_text_of_digits_and_signs_breaks_the_reading(text: str) -> None:
    found = last_number(text)
    assert found is None or isinstance(found[0], Fraction)


@pytest.mark.parametrize("piece", ["1", ",111", "1,", "-", "1/", "1e", ".1", "1.", "1%", "9 ", "e1", "1,111,1111"])
def test_a_long_text_costs_time_in_proportion(piece: str) -> None:
    began = time.process_time()
    last_number(piece * (200_000 // len(piece)))
    assert time.process_time() - began < 1.0
