"""Describing is cheap: in a process of its own, the plugin imports nothing heavy, says nothing and changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from aligntune_core.testing import alone
from aligntune_core.testing.suite.base import SuiteBase
from aligntune_core.testing.suite.checking import broken, check, listed

LONGEST = 120
"""Seconds that the child process may take."""
_results: dict[tuple[str, str], dict[str, Any]] = {}


def _describe(backend: str, make_folder: pytest.TempPathFactory) -> dict[str, Any]:
    """What the child process says; `said` is what was printed in it."""
    folder = make_folder.mktemp("alone")
    result, said = folder / "result.json", folder / "said.txt"
    ours = {k: v for k, v in os.environ.items() if not k.startswith("ALIGNTUNE_")}
    command = [sys.executable, "-m", alone.__name__, backend, str(result), str(said)]
    environment = ours | {"ALIGNTUNE_PLUGINS": backend}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST)
    text = said.read_text("utf-8", "replace") if said.exists() else ""
    if not result.exists():
        last = (text + done.stderr).strip().rpartition("\n")[2]
        broken(
            f"a process that describes the backend ends with exit code {done.returncode}: {last}",
            f"try: ALIGNTUNE_PLUGINS={backend} aligntune plugins",
        )
    return {**json.loads(result.read_text("utf-8")), "said": text}


class DescribingChecks(SuiteBase):
    """A fresh Python in which only this plugin is loaded, and asked all that it is asked before training."""

    def described(self, make_folder: pytest.TempPathFactory) -> dict[str, Any]:
        """What the child process found, asked once."""
        if self.plugin is not None:
            pytest.skip("the plugin was given as an object, and an object cannot be loaded in another process")
        key = (self.backend, os.environ.get("PYTHONPATH", ""))
        if key not in _results:
            _results[key] = _describe(self.backend, make_folder)
        found = _results[key]
        check(
            not found["failure"], f"alone in a process, it fails: {found['failure']}", "see test_it_is_found_and_loads"
        )
        return found

    def test_describing_imports_nothing_heavy(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        heavy = self.described(tmp_path_factory)["heavy"]
        found = [f"{doing} imports {', '.join(modules)}" for doing, modules in heavy.items() if modules]
        remedy = "move these imports into the functions that build_trainer(), build_preview() and tiny_model() call"
        check(not found, f"describing the backend imports training libraries:{listed(found)}", remedy)

    def test_describing_prints_nothing(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        said = self.described(tmp_path_factory)["said"].strip()
        remedy = "log what you have to say, to logging.getLogger of your package, and print nothing"
        check(not said, f"describing the backend prints {said[:100]!r}", remedy)

    def test_describing_leaves_the_process_as_it_was(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        changed = self.described(tmp_path_factory)["changed"]
        remedy = "change nothing outside your own package before build_trainer()"
        check(not changed, f"describing the backend changes the process:{listed(changed)}", remedy)
