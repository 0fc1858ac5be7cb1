"""`aligntune plugins`: what a child process finds, whatever the plugins do to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligntune_core.discovery import PLUGINS
from aligntune_core.testing.installed_plugin import write_plugin

GOOD = "from aligntune_core.testing import FakeBackend\nplugin = FakeBackend()\n"
COMMANDS = """
import click
from aligntune_core import hookimpl

@hookimpl
def provides_commands():
    @click.command()
    def hello():
        click.echo("good day")
    return [hello]
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed plugins: one good one to begin with."""
    folder = tmp_path / "site"
    write_plugin(folder, "good", GOOD, attribute="plugin")
    return folder


@pytest.fixture
def run(site: Path) -> Run:
    """Run the command line where these plugins are installed; no other is allowed."""

    def call(*arguments: str, allow: str = "good,odd,extra", **environ: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(site), "ALIGNTUNE_PLUGINS": allow, **environ}
        command = [sys.executable, "-m", "aligntune", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    return call


def records(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return {p["name"]: p for p in json.loads(done.stdout)["plugins"] if p["status"] != "disabled"}


def test_a_record_tells_origin_hooks_and_what_it_requires(run: Run) -> None:
    good = records(run("plugins", "--json"))["good"]
    seconds = good.pop("seconds")
    assert 0 < seconds < 10
    assert good == {
        "name": "good",
        "group": "aligntune.backends",
        "distribution": "aligntune-good",
        "version": "1.0",
        "entry_point": "aligntune_good_plugin:plugin",
        "requires": ["aligntune>=0.1,<0.2"],
        "status": "ok",
        "hooks": ["provides_algorithms", "is_available", "build_trainer", "build_preview", "tiny_model", "open_model"],
        "error": None,
        "reason": "",
    }


def test_a_broken_one_tells_phase_type_and_message(run: Run, site: Path) -> None:
    write_plugin(site, "odd", "raise ImportError('no torch')")
    odd = records(run("plugins", "--json"))["odd"]
    assert odd["status"] == "broken"
    assert odd["error"] == {"phase": "imported", "type": "ImportError", "message": "no torch"}
    assert run("plugins", "--strict").returncode == 3


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os\nos._exit(0)", "it ended the process with 0"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "it ended the process by SIGSEGV"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "it ended the process by SIGKILL"),
    ],
)
def test_one_that_ends_its_process_is_named_and_the_others_are_told(
    run: Run, site: Path, code: str, message: str
) -> None:
    write_plugin(site, "extra", COMMANDS, group=PLUGINS)
    write_plugin(site, "odd", code)
    found = records(run("plugins", "--json"))
    assert {name: p["status"] for name, p in found.items()} == {"good": "ok", "odd": "broken", "extra": "ok"}
    assert found["odd"]["error"] == {"phase": "loaded", "type": "ProcessEnded", "message": message}


SWALLOWS = """
import time
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
"""


@pytest.mark.parametrize("code", ["import time\ntime.sleep(60)", SWALLOWS])
def test_one_that_hangs_ends_at_the_limit_with_its_name(run: Run, site: Path, code: str) -> None:
    write_plugin(site, "odd", code)
    odd = records(run("plugins", "--json", ALIGNTUNE_PLUGIN_TIMEOUT="0.5"))["odd"]
    assert odd["error"]["type"] in ("TimeoutError", "ProcessEnded")
    assert odd["error"]["message"] in ("it took longer than 0.5 s", "it ended the process with 3")


def test_no_plugin_runs_in_the_commands_own_process(run: Run, site: Path) -> None:
    write_plugin(site, "odd", "import os\nos._exit(7)")
    done = run("plugins")
    assert done.returncode == 0
    assert "it ended the process with 7" in " ".join(done.stdout.split())


def test_a_plugin_that_is_switched_off_says_by_what(run: Run) -> None:
    off = json.loads(run("plugins", "--json", allow="").stdout)["plugins"]
    assert {p["name"]: p["reason"] for p in off}["good"] == "ALIGNTUNE_PLUGINS is set and does not name it"
    denied = json.loads(run("plugins", "--json", ALIGNTUNE_DISABLE_PLUGINS="Good").stdout)["plugins"]
    good = next(p for p in denied if p["name"] == "good")
    assert (good["status"], good["reason"]) == ("disabled", "it is switched off by ALIGNTUNE_DISABLE_PLUGINS")


def test_the_table_names_every_plugin_and_what_is_wrong(run: Run, site: Path) -> None:
    write_plugin(site, "odd", "raise ImportError('no torch')")
    out = " ".join(run("plugins", COLUMNS="160").stdout.split())
    assert "good backend ok aligntune-good 1.0 provides_algorithms, is_available" in out
    assert "odd backend broken aligntune-odd 1.0 imported: ImportError: no torch" in out
