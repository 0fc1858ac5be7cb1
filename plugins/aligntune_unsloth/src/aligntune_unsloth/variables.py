"""The variables that Unsloth reads when it is imported: what it writes stays in the run folder, and nothing is sent."""

from __future__ import annotations

from pathlib import Path


def variables(folder: Path) -> dict[str, str]:
    """For a process that imports Unsloth.

    Args:
        folder: for the code that it generates and compiles; else that would be the working directory.
    """
    return {
        "UNSLOTH_COMPILE_LOCATION": str(folder),
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "UNSLOTH_AUTO_INSTALL": "0",  # its export would install system packages
        "UNSLOTH_RETURN_LOGITS": "1",  # else an evaluation gets no logits
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
