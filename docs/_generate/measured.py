"""What `aligntune compare` measured: a table for each file under benchmarks/measured, a column for each backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from _generate.markdown import table

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "measured"
VERSIONS = ("unsloth", "trl", "transformers", "torch", "python")


def part() -> str:
    """The tables; a dash for what was not measured."""
    return "\n\n".join(_compared(json.loads(path.read_text("utf-8"))) for path in sorted(FOLDER.glob("*.json"))) + "\n"


def _compared(told: dict[str, Any]) -> str:
    found = told["backends"]
    rows = [
        ["tokens a second", *(_number(one["tokens_per_second"]) for one in found)],
        ["seconds a step", *(_number(one["step"]) for one in found)],
        ["seconds to the end of the first step", *(_number(one["first_step"]) for one in found)],
        ["peak memory of the process, GiB", *(_gib(one["memory"]["host"]) for one in found)],
        ["peak memory of the GPU, GiB", *(_gib(one["memory"]["gpu"]) for one in found)],
        ["loss of the last step", *(f"{list(one['losses'].values())[-1]:.4f}" for one in found)],
        ["versions", *(_versions(one["versions"]) for one in found)],
    ]
    return f"{_job(told)}\n\n{table(['', *(one['backend'] for one in found)], rows)}"


def _job(told: dict[str, Any]) -> str:
    """What was trained, and where."""
    config, parameters = told["backends"][0]["config"], told["backends"][0]["parameters"]
    devices = [device for device in told["devices"] if device["kind"] != "cpu"] or told["devices"]
    device = ", ".join(f"{device['kind']} {device['name']}".strip() for device in devices)
    rows = config["batch_size"] * config["gradient_accumulation_steps"]
    return (
        f"**{Path(config['model_name']).name}** on {device}: {parameters['all'] / 1e6:,.0f} million parameters, "
        f"{parameters['trained'] / 1e6:,.1f} million of them trained; {told['steps']} steps of {rows} rows of at most "
        f"{config['max_seq_length']} tokens."
    )


def _versions(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {found[name]}" for name in VERSIONS if name in found)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.3g}"


def _gib(size: int | None) -> str:
    return _number(None if size is None else size / 2**30)
