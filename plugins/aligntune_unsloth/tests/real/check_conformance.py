"""The conformance suite on every cell that is trained with Unsloth, on its CPU backend and in this very process.

It runs in a process of its own: Unsloth has to be imported before what the other checks import. The rewards that the
suite makes up are objects of this process, and could not go into a worker.
"""

from __future__ import annotations

from typing import Any, ClassVar

from aligntune_unsloth.claims import claims
from aligntune_unsloth.importing import unsloth

from aligntune_core.testing import BackendSuite

unsloth()


class TestUnsloth(BackendSuite):
    backend = "unsloth"
    settings: ClassVar[dict[str, Any]] = {"isolation": "none"}
    other_values: ClassVar = {"backend_options": {"adam_beta2": 0.95}, "lora_target_modules": "q_proj,v_proj"}
    only: ClassVar = tuple(
        f"{support.algorithm}-{task}-{model_type}"
        for support in claims()
        for (task, model_type), cell in support.cells.items()
        if cell.level == "full"
    )
