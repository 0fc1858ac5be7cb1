"""`metrics.jsonl` and `samples.jsonl`: one JSON object a line, appended as the run goes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aligntune_core.runs.storage import write_text, writing


def _line(row: Mapping[str, Any]) -> str:
    """ASCII, so that no character of a model's output can break a line or fail to be encoded."""
    return json.dumps(row, ensure_ascii=True) + "\n"


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Add one row.

    Raises:
        StorageError: the disk is full.
    """
    with writing(path), path.open("a", encoding="ascii") as file:
        file.write(_line(row))


def read(path: Path) -> list[dict[str, Any]]:
    """The rows that are whole; a last line that was cut off by a kill is passed over."""
    rows = []
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
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
        write_text(path, "".join(_line(row) for row in read(path) if row.get("step", 0) <= step))
