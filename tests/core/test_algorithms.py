"""Names of algorithms: every spelling means one, and everything else is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligntune_core.algorithms import ALGORITHMS, canonical, fold, lookup
from aligntune_core.errors import LONGEST_NAME, UnknownAlgorithmError

ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text()), st.builds(object)
)


@pytest.mark.parametrize(
    "spelling", ["dr_grpo", "drgrpo", "dr-grpo", "Dr. GRPO", "DR_GRPO", " dr grpo ", "ｄｒ＿ｇｒｐｏ"]
)
def test_all_spellings_of_dr_grpo_are_one_algorithm(spelling: str) -> None:
    assert canonical(spelling) == "dr_grpo"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_name_and_its_title_mean_the_algorithm(name: str) -> None:
    assert canonical(name) == canonical(name.upper()) == name
    assert fold(ALGORITHMS[name].title)


def test_no_two_algorithms_share_a_spelling() -> None:
    assert len({fold(name) for name in ALGORITHMS}) == len(ALGORITHMS)


def test_a_misspelling_names_the_nearest_and_all() -> None:
    with pytest.raises(UnknownAlgorithmError) as caught:
        canonical("gsppo")
    assert "did you mean 'gspo'?" in caught.value.remedy
    assert all(name in caught.value.remedy for name in ALGORITHMS)


@given(ANYTHING)
def test_any_input_is_an_algorithm_or_an_unknown_one(name: object) -> None:
    if lookup(name, ALGORITHMS) is not None:
        assert canonical(name) in ALGORITHMS
        return
    with pytest.raises(UnknownAlgorithmError) as caught:
        canonical(name)
    assert caught.value.field == "algorithm"
    assert len(str(caught.value)) < 400


@given(st.text(min_size=LONGEST_NAME + 1))
def test_a_name_that_is_too_long_is_nobodys(name: str) -> None:
    assert lookup(name + "x" * LONGEST_NAME, ALGORITHMS) is None


def test_what_plugins_bring_is_found_too() -> None:
    assert canonical("My Algo", {"my_algo"}) == "my_algo"


def test_a_plugin_cannot_take_over_a_name_of_ours() -> None:
    assert canonical("dr-grpo", {"drgrpo"}) == canonical("drgrpo", {"drgrpo"}) == "dr_grpo"


@given(st.permutations(["a_b", "ab", "a_b_"]))
def test_the_exact_name_wins_over_one_that_looks_alike(names: list[str]) -> None:
    assert [lookup(name, names) for name in names] == names
