"""The TRL backend trains the same bits whatever was done with Unsloth: absent, installed, listed, diagnosed or used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("weights.py")
ABSENT = "ALIGNTUNE_TEST_ABSENT"
"""Names the file with the hashes of an environment without Unsloth; the session that runs these tests writes it."""


@pytest.fixture(scope="module")
def absent() -> dict[str, str]:
    found: dict[str, str] = json.loads(Path(os.environ[ABSENT]).read_text("utf-8").splitlines()[-1])
    return found


@pytest.mark.parametrize("before", ["nothing", "listed", "diagnosed", "used"])
def test_trl_trains_the_same_bits(absent: dict[str, str], tiny: Path, tmp_path: Path, before: str) -> None:
    command = [sys.executable, str(SCRIPT), str(tiny), str(tmp_path), before]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == absent
