"""The conformance suite on everything that this backend claims."""

from __future__ import annotations

from typing import ClassVar

from aligntune_core.testing import BackendSuite


class TestEverything(BackendSuite):
    backend = "trl"
    other_values: ClassVar = {"backend_options": {"adam_beta2": 0.95}, "lora_target_modules": "q_proj,v_proj"}
