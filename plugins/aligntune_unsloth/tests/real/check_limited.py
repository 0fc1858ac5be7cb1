"""The conformance suite on the cells that the backend trains without Unsloth, in a process that never imports it."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from aligntune_unsloth.claims import WITHOUT_KERNELS, claims

from aligntune_core.testing import BackendSuite


class TestLimited(BackendSuite):
    backend = "unsloth"
    settings: ClassVar[dict[str, Any]] = {"isolation": "none"}
    other_values: ClassVar = {"backend_options": {"adam_beta2": 0.95}, "lora_target_modules": "q_proj,v_proj"}
    only: ClassVar = tuple(
        f"{support.algorithm}-{task}-{model_type}"
        for support in claims()
        for (task, model_type), cell in support.cells.items()
        if cell.note == WITHOUT_KERNELS
    )
    left_out: ClassVar = {
        f"{check}[sft-text_classification-causal_lm]": "what is saved is a classification model, and those are refused"
        for check in ("test_the_saved_model_is_the_trained_one", "test_save_model_writes_it_anywhere")
    }


def test_unsloth_was_never_imported() -> None:
    assert "unsloth" not in sys.modules
