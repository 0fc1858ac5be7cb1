"""The most memory that this process has used so far."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


def _host() -> int:
    """Bytes. Linux counts in `ru_maxrss` what the parent had when it started this process, so its own page is read."""
    if _STATUS.exists():
        return 1024 * int(_STATUS.read_text("utf-8").partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak() -> dict[str, int | None]:
    """Bytes: `host` of this process, and `gpu` as torch allocated it; None where torch has used no GPU."""
    torch: Any = sys.modules.get("torch")
    used = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    return {"host": _host(), "gpu": int(torch.cuda.max_memory_allocated()) if used else None}
