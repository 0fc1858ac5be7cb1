"""What the backend says that it trains: the user documents' tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from aligntune_trl import plugin as trl
from aligntune_unsloth import plugin
from aligntune_unsloth.claims import NO_LABELS, NO_WORDS, WITHOUT_KERNELS

from aligntune_core import AlgorithmSupport


def claims(of: Any) -> Mapping[str, AlgorithmSupport]:
    return {support.algorithm: support for support in of.provides_algorithms()}


def test_it_trains_six_algorithms_and_not_gspo() -> None:
    assert set(claims(plugin)) == {"sft", "dpo", "ppo", "grpo", "dapo", "dr_grpo"}


def test_it_honours_the_settings_that_the_trl_backend_honours() -> None:
    for name, support in claims(plugin).items():
        assert support.settings == claims(trl)[name].settings


def test_auto_prefers_it() -> None:
    assert all(support.preference > claims(trl)[name].preference for name, support in claims(plugin).items())


@pytest.mark.parametrize(
    ("task", "model_type", "level", "note"),
    [
        ("instruction_following", "causal_lm", "full", ""),
        ("supervised_fine_tuning", "causal_lm", "full", ""),
        ("text_generation", "causal_lm", "full", ""),
        ("chat_completion", "causal_lm", "full", ""),
        ("text_classification", "causal_lm", "limited", WITHOUT_KERNELS),
        ("token_classification", "causal_lm", "limited", NO_WORDS),
        ("instruction_following", "seq2seq", "limited", WITHOUT_KERNELS),
        ("instruction_following", "encoder_decoder", "limited", WITHOUT_KERNELS),
        ("text_classification", "classification", "no", NO_LABELS),
        ("token_classification", "classification", "no", NO_LABELS),
    ],
)
def test_a_cell_is_as_the_documents_say(task: str, model_type: str, level: str, note: str) -> None:
    support = claims(plugin)["sft"].cells[task, model_type]
    assert (support.level, support.note) == (level, note)


def test_with_rewards_and_preferences_causal_models_are_trained_in_full() -> None:
    for name in ("dpo", "ppo", "grpo", "dapo", "dr_grpo"):
        levels = {support.level for (_, kind), support in claims(plugin)[name].cells.items() if kind == "causal_lm"}
        assert levels == {"full"}
