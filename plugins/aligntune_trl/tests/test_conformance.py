"""The conformance suite, which every backend runs, for this one."""

from __future__ import annotations

from typing import ClassVar

from aligntune_core.testing import BackendSuite


class TestTrl(BackendSuite):
    backend = "trl"
    other_values: ClassVar = {"backend_options": {"adam_beta2": 0.95}, "lora_target_modules": "q_proj,v_proj"}
