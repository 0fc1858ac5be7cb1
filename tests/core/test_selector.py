"""Choosing the backend: pure, so every rule is tried over random installations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aligntune_core import AlgorithmSupport, Availability, Support
from aligntune_core.errors import (
    AlignTuneError,
    BackendUnavailableError,
    NoBackendError,
    UnknownBackendError,
    UnsupportedAlgorithmError,
)
from aligntune_core.matrix import SupportMatrix
from aligntune_core.ours import EXTRAS, BackendType
from aligntune_core.selector import Selection, backend_name, select

CELL = ("chat_completion", "causal_lm")
NAMES = ["a", "b", "c", "trl", "unsloth"]


@dataclass(frozen=True)
class Fake:
    """One installed backend: how well it trains, its preference, whether it can run."""

    level: str
    preference: int
    ok: bool

    @property
    def support(self) -> AlgorithmSupport:
        note = "" if self.level == "full" else f"is {self.level}"
        cells = {CELL: Support(self.level, note)}  # type: ignore[arg-type]
        return AlgorithmSupport(algorithm="sft", cells=cells, preference=self.preference)


FAKES = st.dictionaries(
    st.sampled_from(NAMES),
    st.builds(Fake, st.sampled_from(["full", "limited", "no"]), st.integers(0, 2), st.booleans()),
    max_size=5,
)


def pick(fakes: Mapping[str, Fake], backend: str, asked: list[str] | None = None) -> Selection:
    def verdict(name: str) -> Availability:
        if asked is not None:
            asked.append(name)
        return Availability(True) if fakes[name].ok else Availability(False, f"{name} is ill", f"mend {name}")

    matrix = SupportMatrix({name: {"sft": fake.support} for name, fake in fakes.items()}, {})
    return select(matrix, verdict, backend=backend, algorithm="sft")


def outcome(fakes: Mapping[str, Fake], backend: str) -> object:
    try:
        return pick(fakes, backend)
    except AlignTuneError as error:
        return type(error), str(error)


@given(FAKES, st.sampled_from(["trl", "unsloth"]))
def test_an_explicit_backend_is_never_replaced(fakes: dict[str, Fake], backend: str) -> None:
    fit = backend in fakes and fakes[backend].ok and fakes[backend].level != "no"
    if not fit:
        with pytest.raises((UnsupportedAlgorithmError, BackendUnavailableError)) as caught:
            pick(fakes, backend)
        assert caught.value.remedy
        return
    selection = pick(fakes, backend)
    assert (selection.backend, selection.asked, selection.rejected) == (backend, backend, ())


@given(FAKES)
def test_auto_takes_the_best_level_then_the_preference_then_the_name(fakes: dict[str, Fake]) -> None:
    fit = {name: f for name, f in fakes.items() if f.ok and f.level != "no"}
    assume(fit)
    best = min(fit, key=lambda name: (fit[name].level != "full", -fit[name].preference, name))
    assert pick(fakes, "auto").backend == best


@given(FAKES)
def test_auto_gives_a_reason_for_every_other_backend_installed_or_ours(fakes: dict[str, Fake]) -> None:
    try:
        told = {r.backend: r.reason for r in pick(fakes, "auto").rejected} | {pick(fakes, "auto").backend: "taken"}
    except NoBackendError as error:
        assert not any(f.ok and f.level != "no" for f in fakes.values())
        told = {name: f"{name}: " for name in {*fakes, *EXTRAS} if f"{name}: " in error.problem}
    assert set(told) == {*fakes, *EXTRAS}
    assert all(told.values())


@given(FAKES)
def test_a_verdict_is_asked_at_most_once_and_only_of_candidates(fakes: dict[str, Fake]) -> None:
    asked: list[str] = []
    try:
        selection = pick(fakes, "auto", asked)
    except NoBackendError:
        assert sorted(asked) == sorted(name for name, f in fakes.items() if f.level != "no")
    else:
        assert asked[-1] == selection.backend
    assert len(asked) == len(set(asked))


@given(FAKES, st.randoms(use_true_random=False), st.sampled_from(["auto", "trl"]))
def test_the_order_of_installation_means_nothing(fakes: dict[str, Fake], random: object, backend: str) -> None:
    items = list(fakes.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert outcome(dict(items), backend) == outcome(fakes, backend)


def test_one_of_ours_that_is_absent_is_an_import_error_with_the_command() -> None:
    with pytest.raises(ImportError) as caught:
        pick({"trl": Fake("full", 10, True)}, "unsloth")
    assert isinstance(caught.value, BackendUnavailableError)
    assert caught.value.remedy == "pip install 'aligntune[unsloth]'"


def test_what_one_backend_cannot_train_names_one_that_can() -> None:
    with pytest.raises(UnsupportedAlgorithmError) as caught:
        pick({"unsloth": Fake("no", 50, True), "trl": Fake("full", 10, True)}, "unsloth")
    assert caught.value.remedy == 'use backend="trl"'
    assert "is no" in caught.value.problem


def test_the_pair_is_checked_before_availability() -> None:
    with pytest.raises(UnsupportedAlgorithmError):
        pick({"trl": Fake("no", 10, False)}, "trl")


def test_an_unavailable_backend_gives_its_own_reason_and_remedy() -> None:
    with pytest.raises(BackendUnavailableError) as caught:
        pick({"trl": Fake("full", 10, False)}, "trl")
    assert (caught.value.problem, caught.value.remedy) == ("trl is ill", "mend trl")


def test_no_backend_at_all_says_how_to_install_one() -> None:
    with pytest.raises(NoBackendError) as caught:
        pick({}, "auto")
    assert caught.value.remedy == "pip install 'aligntune[trl]'"


def test_the_note_of_a_limited_cell_is_told() -> None:
    selection = pick({"trl": Fake("limited", 0, True)}, "trl")
    assert selection.note == "is limited"
    assert "note: is limited" in str(selection)


@pytest.mark.parametrize("asked", ["trl", "TRL", "Trl", " trl ", BackendType.TRL])
def test_a_string_in_any_case_and_the_enum_mean_the_same(asked: object) -> None:
    assert backend_name(asked, []) == "trl"


@pytest.mark.parametrize("asked", ["torch", "", None, 3, "trlx" * 10**6, object()])
def test_a_name_that_nobody_has_lists_the_choices(asked: object) -> None:
    with pytest.raises(UnknownBackendError) as caught:
        backend_name(asked, ["mine", "broken"])
    assert all(name in caught.value.remedy for name in ("auto", "mine", "broken", "trl", "unsloth"))
    assert isinstance(caught.value, ValueError)


@given(st.permutations(["a_b", "ab", "a_b_"]))
def test_two_names_that_look_alike_are_told_apart(names: list[str]) -> None:
    assert [backend_name(name, names) for name in names] == names
