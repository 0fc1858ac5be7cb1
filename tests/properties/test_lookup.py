"""A name may be anything: what is looked up is one of the choices, or one error that lists them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aligntune_core.algorithms import ALGORITHMS, canonical, lookup
from aligntune_core.config.names import OPTIMIZERS, SCHEDULERS
from aligntune_core.errors import AlignTuneError, ConfigError, UnknownAlgorithmError, UnknownBackendError
from aligntune_core.factory import create_rl_trainer, get_trainer
from aligntune_core.ours import EXTRAS
from aligntune_core.plugins import BackendRegistry
from aligntune_core.selector import AUTO, backend_name
from aligntune_core.testing import FakeBackend
from aligntune_core.values import MODEL_TYPES, TASKS

INSTALLED = ("mine", "my_other", "mi_ne")
BROUGHT = ("own", "own_two")
BACKENDS = (AUTO, *INSTALLED, *EXTRAS)
LISTS = {"algorithms": tuple(ALGORITHMS), "backends": BACKENDS, "tasks": TASKS, "model types": MODEL_TYPES}
LISTS |= {"optimizers": tuple(OPTIMIZERS), "schedules": tuple(SCHEDULERS)}
SEPARATORS = ("", "", "", "-", "_", ".", " ", "\t", "--")
LOOKALIKES = str.maketrans({"a": "а", "c": "с", "e": "е", "g": "ɢ", "i": "і", "m": "м", "o": "о", "p": "р", "s": "ѕ"})


class Colour(Enum):
    """An enum of nobody's."""

    RED = "grpo"


class Odd:
    """What even `str()` cannot show."""

    def __repr__(self) -> str:
        raise RuntimeError


PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.binary(max_size=9), st.text(),
    st.text(st.characters(categories=["Cs", "Co", "Cn", "Cc", "Cf", "Mn"]), max_size=9), st.sampled_from(Colour),
    st.builds(Odd), st.builds(object),
)  # fmt: skip
HUGE = st.builds(lambda text, times: text * times, st.text(min_size=1, max_size=5), st.sampled_from([100, 10_000]))
NEAR = st.builds(
    lambda name, at, char: name[:at] + char + name[at:],
    st.sampled_from([*ALGORITHMS, *BACKENDS]), st.integers(0, 8), st.text(max_size=2),
)  # fmt: skip
ANYTHING = st.one_of(
    PLAIN, HUGE, NEAR, st.lists(PLAIN | NEAR, max_size=3), st.dictionaries(st.text(max_size=3), PLAIN, max_size=2),
    st.tuples(NEAR), st.frozensets(st.text(max_size=3), max_size=2),
)  # fmt: skip


@st.composite
def spelt(draw: st.DrawFn, names: Collection[str]) -> tuple[str, str]:
    """A name, and another spelling of it: case, separators and spaces differ."""
    name = draw(st.sampled_from(sorted(names)))
    parts = [draw(st.sampled_from([char.lower(), char.upper()])) for char in name if char not in "_-."]
    gaps = [draw(st.sampled_from(SEPARATORS)) for _ in parts]
    return name, " " * draw(st.integers(0, 2)) + "".join(part + gap for part, gap in zip(parts, gaps, strict=True))


def check_told(error: AlignTuneError, choices: Collection[str]) -> None:
    """One printable line of bounded length, with a remedy that names choices."""
    assert any(choice in error.remedy for choice in choices)
    assert len(str(error)) < 1200
    assert str(error).isprintable()


@settings(max_examples=4500)
@given(ANYTHING)
def test_an_algorithm_is_found_or_told_to_be_unknown(asked: Any) -> None:
    try:
        found = canonical(asked, BROUGHT)
    except UnknownAlgorithmError as error:
        check_told(error, ALGORITHMS)
    else:
        assert found in {*ALGORITHMS, *BROUGHT}
        assert canonical(found, BROUGHT) == found


@settings(max_examples=4500)
@given(ANYTHING)
def test_a_backend_is_found_or_told_to_be_unknown(asked: Any) -> None:
    try:
        found = backend_name(asked, INSTALLED)
    except UnknownBackendError as error:
        check_told(error, BACKENDS)
    else:
        assert found in BACKENDS
        assert backend_name(found, INSTALLED) == found


@settings(max_examples=2500)
@given(ANYTHING, st.lists(st.text(max_size=6), max_size=5))
def test_what_is_looked_up_is_a_choice_or_nothing_in_whatever_list(asked: Any, choices: list[str]) -> None:
    found = lookup(asked, choices)
    assert found is None or found in choices
    assert all(lookup(choice, choices) == choice for choice in choices if choice.strip() and choice.isalnum())


@pytest.mark.parametrize("kind", LISTS)
@settings(max_examples=300)
@given(st.data())
def test_case_separators_and_spaces_mean_nothing(kind: str, data: st.DataObject) -> None:
    name, spelling = data.draw(spelt([n for n in LISTS[kind] if n not in ("mine", "mi_ne")]))
    assert lookup(spelling, LISTS[kind]) == name


@settings(max_examples=700)
@given(spelt(ALGORITHMS), st.integers(0, 60))
def test_a_name_that_only_looks_like_one_of_ours_is_none(pair: tuple[str, str], at: int) -> None:
    letters = [n for n, char in enumerate(pair[1].lower()) if ord(char) in LOOKALIKES]
    if not letters:
        return
    at = letters[at % len(letters)]
    alike = pair[1][:at] + pair[1][at].lower().translate(LOOKALIKES) + pair[1][at + 1 :]
    with pytest.raises(UnknownAlgorithmError):
        canonical(alike)


@settings(max_examples=400)
@given(ANYTHING, ANYTHING)
def test_get_trainer_takes_any_name_and_raises_only_errors_of_ours(
    use_registry: Callable[..., BackendRegistry], algorithm: Any, backend: Any
) -> None:
    use_registry(mine=FakeBackend(), my_other=FakeBackend(["dpo"]), mi_ne=FakeBackend(), auto=FakeBackend())
    with pytest.raises(AlignTuneError) as caught:
        get_trainer(algorithm, backend)
    assert caught.value.exit_code in (2, 3)
    assert str(caught.value).isprintable() or len(caught.value.problems) > 1


@settings(max_examples=300)
@given(ANYTHING)
def test_an_unknown_algorithm_is_told_before_anything_else(
    use_registry: Callable[..., BackendRegistry], algorithm: Any
) -> None:
    use_registry(mine=FakeBackend())
    with pytest.raises((UnknownAlgorithmError, ConfigError, UnknownBackendError)):
        create_rl_trainer(algorithm=algorithm, backend=algorithm, nonsense=algorithm)
