"""The conformance suite, which every backend runs, for this one: a cell of each of two algorithms.

`check_conformance.py` beside it is the whole of it, in a session of its own.
"""

from __future__ import annotations

from typing import ClassVar

from aligntune_core.testing import BackendSuite


class TestTrl(BackendSuite):
    backend = "trl"
    only: ClassVar = ("sft-chat_completion-causal_lm", "grpo-chat_completion-causal_lm")
    other_values: ClassVar = {"backend_options": {"adam_beta2": 0.95}, "lora_target_modules": "q_proj,v_proj"}
