"""`matrix --why BACKEND/ALGORITHM` says what auto does, and it is what auto does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligntune_core import Availability, Environment, Support
from aligntune_core.cli.main import run
from aligntune_core.errors import NoBackendError
from aligntune_core.installed import choose
from aligntune_core.plugins import BackendRegistry
from aligntune_core.testing import FakeBackend

Use = Callable[..., BackendRegistry]
ILL = Availability(False, "it is ill", "mend it")
LIMITED = {("chat_completion", "causal_lm"): Support("limited", "slowly")}


def why(capsys: pytest.CaptureFixture[str], asked: str) -> dict[str, Any]:
    assert run(["matrix", "--why", asked, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_it_ranks_by_level_then_preference_then_name(use_registry: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use_registry(
        a=FakeBackend(), b=FakeBackend(preference=5), c=FakeBackend(preference=9, cells=LIMITED), d=FakeBackend(["dpo"])
    )
    facts = why(capsys, "auto/sft")
    assert facts["chosen"] == "b"
    assert [(c["backend"], c["rank"]) for c in facts["candidates"]] == [
        ("b", 1), ("a", 2), ("c", 3), ("d", None), ("trl", None), ("unsloth", None),
    ]  # fmt: skip
    assert facts["candidates"][2]["note"] == "slowly"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("best/sft", "For sft, auto takes best."),
        ("AUTO/SFT", "For sft, auto takes best."),
        ("worse/sft", "For sft, auto takes best: it comes before worse."),
        ("ill/sft", "For sft, auto takes best: ill cannot run here (it is ill; mend it)."),
        ("other/sft", "For sft, auto takes best: other does not train it."),
        ("trl/sft", "For sft, auto takes best: trl cannot run here (not installed; pip install 'aligntune[trl]')."),
        ("best/gspo", "For gspo, auto finds no backend: best does not train it."),
    ],
)
def test_the_answer_is_a_sentence(use_registry: Use, capsys: pytest.CaptureFixture[str], asked: str, says: str) -> None:
    use_registry(
        best=FakeBackend(preference=9), worse=FakeBackend(), ill=FakeBackend(preference=99, verdict=ILL),
        other=FakeBackend(["dpo"]),
    )  # fmt: skip
    assert run(["matrix", "--why", asked]) == 0
    assert capsys.readouterr().out.splitlines()[0] == says


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("sft", "--why is BACKEND/ALGORITHM, not 'sft'; such as --why trl/sft or auto/sft"),
        ("tlr/sft", "did you mean 'trl'?"),
        ("trl/sfd", "did you mean 'sft'?"),
    ],
)
def test_a_wrong_question_is_exit_2(
    use_registry: Use, capsys: pytest.CaptureFixture[str], asked: str, says: str
) -> None:
    use_registry()
    assert run(["matrix", "--why", asked]) == 2
    assert says in capsys.readouterr().err


BACKENDS = st.dictionaries(
    st.sampled_from("abcd"), st.tuples(st.booleans(), st.booleans(), st.integers(0, 2)), min_size=1
)


@given(BACKENDS)
def test_what_it_names_is_what_auto_takes(
    use_registry: Use, capsys: pytest.CaptureFixture[str], drawn: dict[str, tuple[bool, bool, int]]
) -> None:
    registry = use_registry(
        **{
            name: FakeBackend(
                preference=preference, cells=LIMITED if limited else None, verdict=ILL if ill else Availability(True)
            )
            for name, (limited, ill, preference) in drawn.items()
        }
    )
    try:
        taken = choose(registry, Environment(), "sft", "auto")[1].backend
    except NoBackendError:
        taken = None
    assert why(capsys, "auto/sft")["chosen"] == taken
