"""A hash of a plugin's own source files, so that a run says which code it was made with."""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from pathlib import Path


def _files(package: str) -> list[Path]:
    """The Python files of an imported top-level package or module."""
    module = sys.modules.get(package)
    folders = [Path(folder) for folder in getattr(module, "__path__", ())]
    if folders:
        return sorted(path for folder in folders for path in folder.rglob("*.py"))
    file = getattr(module, "__file__", None)
    return [Path(file)] if file else []


@cache
def fingerprint(entry_point: str) -> str:
    """The SHA-256 over names and contents of the files, the same on every machine; empty where there are none.

    Args:
        entry_point: `package.module` or `package.module:attribute`; the whole package counts.
    """
    package = entry_point.partition(":")[0].partition(".")[0]
    found = hashlib.sha256()
    files = _files(package)
    for path in files:
        found.update(f"{path.parent.name}/{path.name}\0".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest() if files else ""
