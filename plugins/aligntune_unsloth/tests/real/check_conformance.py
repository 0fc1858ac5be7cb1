"""The conformance suite, which every backend runs, on Unsloth's CPU backend."""

from __future__ import annotations

from typing import ClassVar

from aligntune_core.testing import BackendSuite


class TestUnsloth(BackendSuite):
    backend = "unsloth"
    other_values: ClassVar = {"backend_options": {"adam_beta2": 0.95}, "lora_target_modules": "q_proj,v_proj"}
