"""The versions that are accepted, from the packages' own requirements."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from _generate.markdown import code, table

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "bitsandbytes")


def part() -> str:
    """A table of Python and the libraries that the TRL backend needs."""
    project = tomllib.loads((ROOT / "plugins/aligntune_trl/pyproject.toml").read_text("utf-8"))["project"]
    ranges = {r.name: str(r.specifier) for r in map(Requirement, project["dependencies"])}
    rows = [["Python", code(project["requires-python"])], *([name, code(_ordered(ranges[name]))] for name in SHOWN)]
    return table(["package", "versions"], rows) + "\n"


def _ordered(specifier: str) -> str:
    """The lower bound first, then what is left out, then the upper bound."""
    return ", ".join(sorted(specifier.split(","), key=lambda part: ">!=<".index(part[0])))
