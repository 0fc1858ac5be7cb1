"""Unsloth before everything else: it rewrites TRL, transformers and torch as it is imported."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from aligntune_trl.quiet import hush

from aligntune_core import BackendUnavailableError
from aligntune_core.errors import gist
from aligntune_unsloth.availability import USE_TRL, wants_cpu
from aligntune_unsloth.variables import variables

FIRST = ("trl", "peft", "transformers")
"""What must not be imported before it."""


def unsloth() -> Any:
    """The module; from now on this process is Unsloth's.

    Raises:
        BackendUnavailableError: it cannot be imported, or others were here first.
    """
    if "unsloth" in sys.modules:
        return sys.modules["unsloth"]
    if early := [name for name in FIRST if name in sys.modules]:
        problem = f"{', '.join(early)} was imported in this process before Unsloth, which would rewrite it"
        raise _unavailable(problem, "leave out isolation: none, or start a fresh Python process")
    hush()
    for name, value in variables(Path(tempfile.gettempdir()) / f"unsloth-{os.getpid()}").items():
        os.environ.setdefault(name, value)
    if wants_cpu():
        os.environ["UNSLOTH_FORCE_CPU"] = "1"
    else:
        os.environ["UNSLOTH_DISABLE_CPU_FALLBACK"] = "1"
    try:
        with contextlib.redirect_stdout(sys.stderr):
            import unsloth as module
    except (ImportError, NotImplementedError, RuntimeError, OSError) as error:
        raise _unavailable(f"it cannot be imported: {gist(error)}", f"see worker.log, or {USE_TRL}") from error
    return module


def _unavailable(problem: str, remedy: str) -> BackendUnavailableError:
    return BackendUnavailableError(problem, remedy, field="backend", value="unsloth")
