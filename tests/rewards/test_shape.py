"""length, repetition and soft_overlong against plain readings of what they say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligntune_core.errors import ConfigError
from aligntune_core.rewards.builtin.shape import length, repetition, soft_overlong
from aligntune_core.rewards.resolve import resolve

from .conftest import Score

IDS = st.lists(st.integers(0, 3), max_size=40)


@given(IDS, st.integers(1, 5))
def test_repetition_is_the_share_of_n_grams_that_were_there_before(ids: list[int], size: int) -> None:
    seen: Counter[tuple[int, ...]] = Counter()
    repeated = total = 0
    for end in range(size, len(ids) + 1):
        gram = tuple(ids[end - size : end])
        repeated += gram in seen
        seen[gram] += 1
        total += 1
    (found,) = repetition(ngram_size=size)(completions=[""], completion_ids=[ids])
    assert found == pytest.approx(-repeated / total if total else 0.0)
    assert -1 < found <= 0


@given(st.integers(0, 300), st.integers(1, 200), st.data())
def test_soft_overlong_is_equation_13(size: int, longest: int, data: st.DataObject) -> None:
    cache = data.draw(st.integers(1, longest))
    if size <= longest - cache:
        expected = 0.0
    elif size <= longest:
        expected = ((longest - cache) - size) / cache
    else:
        expected = -1.0
    reward = soft_overlong(max_completion_length=longest, cache=cache)
    assert reward(completions=[""], completion_ids=[[0] * size]) == [expected]


def test_soft_overlong_without_a_cache_is_a_step() -> None:
    reward = soft_overlong(max_completion_length=4, cache=0)
    assert reward(completions=[""] * 2, completion_ids=[[0] * 4, [0] * 5]) == [0.0, -1.0]


@pytest.mark.parametrize("longest", [20480, 16])
def test_soft_overlong_agrees_with_trl(longest: int) -> None:
    rewards = pytest.importorskip("trl.rewards")
    ids = [[0] * size for size in range(0, longest + 9, max(1, longest // 64))]
    theirs = rewards.get_soft_overlong_punishment(longest, longest // 5)(completion_ids=ids)
    assert (
        soft_overlong(max_completion_length=longest, cache=longest // 5)(completions=ids, completion_ids=ids) == theirs
    )


@given(st.integers(0, 100), st.integers(1, 30), st.integers(0, 30))
def test_length_is_one_inside_and_falls_outside(size: int, least: int, more: int) -> None:
    reward = length(least=least, most=least + more, unit="characters")
    shorter, found, longer = reward(completions=["x" * (size - 1), "x" * size, "x" * (size + 1)])
    assert (found == 1.0) == (least <= size <= least + more)
    assert 0.0 <= found <= 1.0
    assert (longer >= found) if size < least else (shorter >= found) if size > least + more else True


def test_length_falls_in_a_line(score: Score) -> None:
    reward = {"name": "length", "least": 2, "most": 4}
    assert score(reward, ["x" * n for n in range(10)]) == [0, 0.5, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]


@pytest.mark.parametrize(
    "options",
    [
        {"name": "length"},
        {"name": "length", "least": 3, "most": 2},
        {"name": "length", "most": 0},
        {"name": "length", "least": -1},
        {"name": "length", "most": 2.5},
        {"name": "length", "most": True},
        {"name": "length", "most": 2, "unit": "words"},
        {"name": "repetition", "ngram_size": 0},
        {"name": "soft_overlong", "max_completion_length": 4, "cache": 5},
        {"name": "soft_overlong", "max_completion_length": 4, "cache": -1},
        {"name": "soft_overlong", "max_completion_length": 0, "cache": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"reward_functions = '{options['name']}': "):
        resolve([options])


def test_messages_are_measured_by_their_text(score: Score) -> None:
    completion = [{"role": "assistant", "content": "abcd"}]
    assert score({"name": "length", "most": 2, "unit": "characters"}, [completion]) == [0.0]
