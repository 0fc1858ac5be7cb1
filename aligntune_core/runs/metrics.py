"""`metrics.jsonl` and `samples.jsonl`: one JSON object a line, appended as the run goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aligntune_core.runs.storage import write_text, writing


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add one row.

    Raises:
        StorageError: the disk is full.
    """
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that are whole; a last line that was cut off by a kill is passed over."""
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def rewind(path: Path, step: int) -> None:
    """Drop the rows after `step`: the run goes on from there and writes them again."""
    if path.exists():
        kept = [row for row in read(path) if row.get("step", 0) <= step]
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
