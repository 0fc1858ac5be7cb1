"""What `aligntune compare` measured: the files under benchmarks/measured, a row for each backend."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _generate.markdown import table

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "measured"
COLUMNS = (
    *("model", "parameters", "rows × tokens at most", "device", "backend", "tokens a second"),
    *("a step, s", "host, GiB", "GPU, GiB", "last loss", "versions"),
)
VERSIONS = ("trl", "unsloth", "transformers", "torch", "python")


def part() -> str:
    """The table; a dash for what was not measured."""
    rows = [row for path in sorted(FOLDER.glob("*.json")) for row in _rows(json.loads(path.read_text("utf-8")))]
    return table(COLUMNS, rows) + "\n"


def _rows(told: dict[str, Any]) -> Iterator[list[str]]:
    devices = [device for device in told["devices"] if device["kind"] != "cpu"] or told["devices"]
    device = ", ".join(f"{device['kind']} {device['name']}".strip() for device in devices)
    for found in told["backends"]:
        config, parameters = found["config"], found["parameters"]
        yield [
            Path(config["model_name"]).name,
            f"{parameters['all'] / 1e6:,.0f} M, {parameters['trained'] / 1e6:,.1f} M trained",
            f"{config['batch_size'] * config['gradient_accumulation_steps']} × {config['max_seq_length']}",
            device,
            found["backend"],
            _number(found["tokens_per_second"]),
            _number(found["step"]),
            _gib(found["memory"]["host"]),
            _gib(found["memory"]["gpu"]),
            f"{list(found['losses'].values())[-1]:.3f}",
            ", ".join(f"{name} {found['versions'][name]}" for name in VERSIONS if name in found["versions"]),
        ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.3g}"


def _gib(size: int | None) -> str:
    return _number(None if size is None else size / 2**30)
