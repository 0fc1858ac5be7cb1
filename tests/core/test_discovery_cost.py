"""What plugins cost that are merely installed, counted and not timed: nothing of them is read but their names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aligntune_core.discovery import PLUGINS
from aligntune_core.testing.installed_plugin import write_plugin

MARKED = """
import pathlib
pathlib.Path(__file__).with_suffix(".imported").touch()
from aligntune_core.testing import FakeBackend
plugin = FakeBackend()
"""
WATCHED = """
import json, sys
opened = []
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
from aligntune_core.cli.main import run
code = run({arguments})
print(json.dumps({{"code": code, "opened": [name for name in opened if {site!r} in name]}}))
"""
LOADED = """
import json, sys
from aligntune_core.plugins import load_registry
registry = load_registry()
print(json.dumps({"backends": sorted(registry.backends), "modules": sorted(sys.modules)}))
"""


def install(site: Path, count: int) -> Path:
    """So many plugins of both groups, called p0, p1, …; each leaves a mark when it is imported."""
    for number in range(count):
        group = {"group": PLUGINS} if number % 10 == 9 else {}
        write_plugin(site, f"p{number}", MARKED, attribute="plugin", **group)
    return site


def python(code: str, site: Path, **environ: str) -> Any:
    """The last line that a fresh interpreter prints, where these plugins are installed."""
    environment = {**os.environ, "PYTHONPATH": str(site), **environ}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]) | {"said": done.stdout}


@pytest.mark.parametrize("arguments", [["--help"], ["explain", "--help"], ["nonsense"]])
def test_help_beside_200_plugins_imports_none_and_opens_no_metadata(arguments: list[str], tmp_path: Path) -> None:
    site = install(tmp_path / "site", 200)
    found = python(WATCHED.format(arguments=arguments, site=str(site)), site)
    assert not list(site.glob("*.imported"))
    assert not [name for name in found["opened"] if not name.endswith("entry_points.txt")]
    assert len(found["opened"]) <= 3 * 200


def test_plugins_that_are_not_allowed_are_told_of_and_not_imported(tmp_path: Path) -> None:
    site = install(tmp_path / "site", 20)
    found = python(WATCHED.format(arguments=["list-backends"], site=str(site)), site, ALIGNTUNE_PLUGINS="")
    assert [name for name in found["opened"] if name.endswith("METADATA")]  # so the watch sees it
    assert not list(site.glob("*.imported"))
    assert "p18" in found["said"]


def test_help_names_the_plugins_that_are_installed(tmp_path: Path) -> None:
    site = install(tmp_path / "site", 20)
    said = python(WATCHED.format(arguments=["--help"], site=str(site)), site)["said"].replace(",", " ").split()
    assert {f"p{number}" for number in range(20)} <= set(said)


def loaded(site: Path, count: int) -> tuple[set[str], set[str]]:
    """What is loaded of so many plugins, and the modules in memory after that."""
    allowed = ",".join(f"p{number}" for number in range(count))
    found = python(LOADED, install(site, count), ALIGNTUNE_PLUGINS=allowed)
    return set(found["backends"]), set(found["modules"])


def test_each_plugin_that_is_loaded_costs_its_own_module_and_no_other(tmp_path: Path) -> None:
    one, before = loaded(tmp_path / "one", 1)
    many, after = loaded(tmp_path / "many", 50)
    assert one == {"p0"}
    assert many == {f"p{number}" for number in range(50) if number % 10 != 9}
    assert after - before == {f"aligntune_{name}_plugin" for name in many - one}
    assert before <= after
