"""The rewards with names: ours, and how a plugin brings more."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from aligntune_core.errors import PluginContractError
from aligntune_core.rewards import Reward, RewardRegistry, text_of
from aligntune_core.rewards.resolve import resolve

from .conftest import Score

BUILT_IN = RewardRegistry.built_in()


def polite(*, word: str = "please") -> Any:
    """Whether a word is there.

    More follows.
    """

    def reward(completion: Any) -> float:
        return float(word in text_of(completion))

    return reward


def test_ours_are_few_and_each_says_what_it_does() -> None:
    assert sorted(BUILT_IN) == [
        *("exact_match", "format", "json_schema", "length", "math", "numeric_match", "repetition", "soft_overlong"),
    ]
    assert all(reward.origin == "aligntune" and reward.summary for reward in BUILT_IN.values())


def test_a_plugins_reward_is_asked_for_by_name(score: Score) -> None:
    registry = BUILT_IN.adding([Reward("polite", polite)], "manners 1.0")
    assert registry["polite"].origin == "manners 1.0"
    assert registry["polite"].summary == "Whether a word is there."
    (reward,) = resolve([{"name": "polite", "word": "thanks"}], registry=registry)
    assert score(reward, ["thanks", "please"]) == [1.0, 0.0]
    assert "polite" not in BUILT_IN


@pytest.mark.parametrize(
    ("reward", "says"),
    [
        (Reward("format", polite), "the reward 'format' is there already, from aligntune"),
        (Reward("for_mat", polite), "the reward 'for_mat' is there already, from aligntune"),
        (Reward("Polite", polite), "gave the name 'Polite', and a name is lower-case letters"),
        (Reward("po\nlite", polite), "gave the name 'po lite'"),
        (Reward("p" * 65, polite), "gave the name"),
        (Reward("FILE.py:polite", polite), "gave the name 'FILE.py:polite'"),
        (Reward(None, polite), "gave the name 'null'"),  # type: ignore[arg-type]
        (Reward("polite", "polite"), "has nothing that makes it: make is text"),  # type: ignore[arg-type]
        (polite, "gave a function, which is no Reward"),
    ],
)
def test_a_plugin_cannot_bring_this(reward: Any, says: str) -> None:
    with pytest.raises(PluginContractError) as caught:
        BUILT_IN.adding([reward], "manners 1.0")
    assert says in str(caught.value)
    assert caught.value.value == "manners 1.0"


def test_two_plugins_cannot_bring_one_name() -> None:
    registry = BUILT_IN.adding([Reward("polite", polite)], "manners 1.0")
    with pytest.raises(PluginContractError, match=r"'polite' is there already, from manners 1\.0"):
        registry.adding([Reward("polite", polite)], "others 2.0")


def test_a_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        BUILT_IN["mine"] = BUILT_IN["format"]  # type: ignore[index]


TEXTS: dict[str, tuple[Any, str]] = {
    "text": ("abc", "abc"),
    "a message": ([{"role": "assistant", "content": "abc"}], "abc"),
    "messages": ([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}], "a\nb"),
    "a tool's message between": (
        [{"role": "assistant", "content": None, "tool_calls": []}, {"role": "tool", "content": "x"}, {"content": "b"}],
        "\nb",
    ),
    "parts": ([{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}], "a"),
    "no messages": ([], ""),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_completion_has_a_text(kind: str) -> None:
    completion, text = TEXTS[kind]
    assert text_of(completion) == text


@pytest.mark.parametrize("completion", [None, 3, ["abc"], {"content": "abc"}])
def test_what_is_no_completion_has_none(completion: Any) -> None:
    with pytest.raises(TypeError, match="neither text nor a list of messages"):
        text_of(completion)


def test_naming_rewards_imports_nothing_that_is_heavy() -> None:
    code = (
        "import json, sys; from aligntune_core.rewards.resolve import check;"
        "check(['exact_match', 'math', {'name': 'format', 'pattern': 'x'}]); print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "sympy", "math_verify", "jsonschema", "asyncio"} & set(json.loads(done.stdout))
