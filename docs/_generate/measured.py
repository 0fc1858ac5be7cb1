"""What `aligntune compare` measured: a table for each file under benchmarks/measured, a column for each backend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _generate.markdown import table
from aligntune_core.compare import COLUMNS, Measured, cells, devices_of

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "measured"
VERSIONS = ("unsloth", "trl", "transformers", "torch", "python")


def part() -> str:
    """The tables; a dash for what was not measured."""
    return "\n\n".join(_compared(json.loads(path.read_text("utf-8"))) for path in sorted(FOLDER.glob("*.json"))) + "\n"


def _compared(told: dict[str, Any]) -> str:
    found = [Measured(**one) for one in told["backends"]]
    rows = [list(row) for row in zip(COLUMNS, *map(cells, found), strict=True)]
    rows.append(["versions", *(_versions(one.versions) for one in found)])
    return f"{_job(told, found[0])}\n\n{table(['', *(one.backend for one in found)], rows)}"


def _job(told: dict[str, Any], first: Measured) -> str:
    """What was trained, and where."""
    config, sizes = first.config, first.parameters
    rows = config["batch_size"] * config["gradient_accumulation_steps"]
    return (
        f"**{Path(config['model_name']).name}** on {devices_of(told)}: {sizes['all'] / 1e6:,.0f} million parameters, "
        f"{sizes['trained'] / 1e6:,.1f} million of them trained; {told['steps']} steps of {rows} rows of at most "
        f"{config['max_seq_length']} tokens."
    )


def _versions(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {found[name]}" for name in VERSIONS if name in found)
