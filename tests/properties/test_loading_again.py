"""Loading is repeatable: a second time, in another process, after a fork and after a spawn, the picture is the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aligntune_core.testing.installed_plugin import write_plugin

GOOD = "from aligntune_core.testing import FakeBackend\nplugin = FakeBackend({})\n"
CHILD = """
import json, multiprocessing, sys
from aligntune_core.environment import Environment
from aligntune_core.installed import build_matrix, default_registry
from aligntune_core.plugins import load_registry

def picture(registry):
    return {
        "cells": build_matrix(registry, Environment()).cells,
        "snapshot": registry.snapshot(),
        "failures": [[f.name, f.phase, f.reason] for f in registry.failures.values()],
    }

def tell(connection):
    connection.send(picture(default_registry()))

def in_a_process(method):
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=tell, args=(theirs,))
    process.start()
    found = ours.recv()
    process.join()
    return found

if __name__ == "__main__":
    found = {"first": picture(default_registry()), "second": picture(load_registry())}
    found |= {method: in_a_process(method) for method in ("fork", "spawn")}
    print(json.dumps(found))
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Three good plugins, one that fails, and a name that two claim."""
    for name, algorithms in (("zeta", "['sft', 'dpo']"), ("alpha", "preference=3"), ("mid", "")):
        write_plugin(tmp_path / "site", name, GOOD.format(algorithms), attribute="plugin")
    write_plugin(tmp_path / "site", "fails", "raise ImportError('no torch')")
    for distribution in ("dist-one", "dist-two"):
        write_plugin(tmp_path / "site", "twice", GOOD.format(""), distribution=distribution, attribute="plugin")
    return tmp_path / "site"


def ask(site: Path, seed: str) -> dict[str, Any]:
    """What a fresh process finds."""
    program = site.parent / "child.py"
    program.write_text(CHILD, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONHASHSEED": seed}
    environment["ALIGNTUNE_PLUGINS"] = "zeta,alpha,mid,fails,twice"
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_second_time_and_in_every_kind_of_process_it_is_the_same(site: Path) -> None:
    found = ask(site, "1")
    expected = found["first"]
    assert [p["name"] for p in expected["snapshot"]] == ["alpha", "mid", "zeta"]
    assert [f[:2] for f in expected["failures"]] == [["fails", "imported"], ["twice", "found"]]
    assert len(expected["cells"]) == 8
    assert found == dict.fromkeys(("first", "second", "fork", "spawn"), expected)
    assert ask(site, "2")["first"] == expected
