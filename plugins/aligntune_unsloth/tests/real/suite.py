"""The conformance suite as both checks of this backend run it: in this very process, on a part of its cells.

The rewards that the suite makes up are objects of this process, and could not go into a worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from aligntune_unsloth.claims import claims

from aligntune_core import Support
from aligntune_core.testing import BackendSuite


class UnslothSuite(BackendSuite):
    backend = "unsloth"
    settings: ClassVar[dict[str, Any]] = {"isolation": "none"}
    other_values: ClassVar = {"backend_options": {"adam_beta2": 0.95}, "lora_target_modules": "q_proj,v_proj"}


def cells(wanted: Callable[[Support], bool]) -> tuple[str, ...]:
    """The cells that are so claimed, as `BackendSuite.only` names them."""
    return tuple(
        f"{support.algorithm}-{task}-{model_type}"
        for support in claims()
        for (task, model_type), cell in support.cells.items()
        if wanted(cell)
    )
