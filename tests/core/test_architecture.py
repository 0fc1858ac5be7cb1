"""The architecture as a failing check: the contracts are sentences in pyproject.toml."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint(config: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-cache", "--config", str(config)]
    path = str(ROOT / "plugins/aligntune_unsloth/src")  # it is installed only where Unsloth is
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)


def test_every_contract_is_kept() -> None:
    pytest.importorskip("importlinter")
    done = lint(ROOT / "pyproject.toml")
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    assert done.returncode == 0, done.stdout
    assert all(f"{contract['name']} KEPT" in done.stdout for contract in contracts)


def test_a_contract_can_be_broken(tmp_path: Path) -> None:
    pytest.importorskip("importlinter")
    config = tmp_path / "importlinter.toml"
    config.write_text(
        '[tool.importlinter]\nroot_package = "aligntune_core"\n'
        '[[tool.importlinter.contracts]]\nname = "Nobody loads plugins"\ntype = "forbidden"\n'
        'source_modules = ["aligntune_core.factory"]\nforbidden_modules = ["aligntune_core.plugins"]\n',
        "utf-8",
    )
    done = lint(config)
    assert done.returncode == 1
    assert "Nobody loads plugins BROKEN" in done.stdout
