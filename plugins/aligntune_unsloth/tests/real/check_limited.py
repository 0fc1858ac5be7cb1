"""The conformance suite on the cells that the backend trains without Unsloth, in a process that never imports it."""

from __future__ import annotations

import sys
from typing import ClassVar

from aligntune_unsloth.claims import WITHOUT_KERNELS

from .suite import UnslothSuite, cells


class TestLimited(UnslothSuite):
    only: ClassVar = cells(lambda cell: cell.note == WITHOUT_KERNELS)
    left_out: ClassVar = {
        f"{check}[sft-text_classification-causal_lm]": "what is saved is a classification model, and those are refused"
        for check in ("test_the_saved_model_is_the_trained_one", "test_save_model_writes_it_anywhere")
    }


def test_unsloth_was_never_imported() -> None:
    assert "unsloth" not in sys.modules
