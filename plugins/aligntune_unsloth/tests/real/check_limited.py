"""The conformance suite on the cells that the backend trains without Unsloth, in a process that never imports it."""

from __future__ import annotations

import sys
from typing import ClassVar

from aligntune_unsloth.claims import WITHOUT_KERNELS

from .suite import UnslothSuite, cells


class TestLimited(UnslothSuite):
    only: ClassVar = cells(lambda cell: cell.note == WITHOUT_KERNELS)
    other_values: ClassVar = UnslothSuite.other_values | {"lora_target_modules": "q,v"}  # settings are asked of a T5
    left_out: ClassVar = {
        f"{check}[sft-text_classification-causal_lm]": "what is saved is a classification model, and those are refused"
        for check in ("test_the_saved_model_is_the_trained_one", "test_save_model_writes_it_anywhere")
    } | {
        "test_an_epoch_has_its_steps[sft]": "an encoder-decoder learns each answer of a conversation by itself",
        "test_a_setting_is_honoured_or_refused[sft-assistant_only_loss]": "only what a decoder says can be trained",
    }


def test_unsloth_was_never_imported() -> None:
    assert "unsloth" not in sys.modules
