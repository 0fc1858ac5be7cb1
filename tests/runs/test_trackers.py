"""Trackers that plugins bring: named in `report_to`, they follow the run; failing, they harm nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligntune import Trainer
from aligntune_core.discovery import PLUGINS
from aligntune_core.errors import BackendUnavailableError, ConfigError, PluginContractError, PluginLoadError
from aligntune_core.testing import FakeBackend

Start = Callable[..., Trainer]
Install = Callable[..., Path]

DIARY = """
import json
from aligntune_core import Callback, hookimpl


class Diary(Callback):
    def __init__(self, run):
        self.file, self.heard = run.run_dir / "diary.json", [run.algorithm, run.backend, run.config.seed]

    def start(self, first, steps_planned):
        self.heard.append([first, steps_planned])

    def row(self, row):
        self.heard.append(row["step"])

    def end(self, status):
        self.file.write_text(json.dumps([*self.heard, status]), "utf-8")


@hookimpl
def provides_callbacks(run):
    return [Diary(run)]
"""
FAILS = """
from aligntune_core import Callback, hookimpl


class Fails(Callback):
    def step(self, step):
        if step == 2:
            raise {error}


@hookimpl
def provides_callbacks():
    return [Fails()]
"""


def diary() -> list[Any]:
    content: list[Any] = json.loads(Path("run/diary.json").read_text("utf-8"))
    return content


@pytest.fixture
def tracked(install_plugin: Install) -> None:
    install_plugin("diary", DIARY, group=PLUGINS)


def test_it_hears_the_run_from_start_to_end(tracked: None, start: Start) -> None:
    start(max_steps=2, report_to="diary").train()
    assert diary() == ["sft", "fake", 42, [0, 2], 1, 2, "finished"]


def test_it_is_told_of_a_run_that_fails(tracked: None, start: Start) -> None:
    with pytest.raises(RuntimeError):
        start(FakeBackend(on_step=lambda step: _fail()), report_to=["diary"]).train()
    assert diary()[-1] == "failed"


def _fail() -> None:
    raise RuntimeError


def test_it_hears_where_a_run_goes_on(tracked: None, start: Start) -> None:
    def stop(step: int) -> None:
        if step == 5:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        start(FakeBackend(on_step=stop), report_to="diary").train()
    start(resume=True, report_to="diary").train()
    assert diary()[3] == [4, 6]


def test_unasked_it_is_not_even_imported(install_plugin: Install, start: Start) -> None:
    install_plugin("bomb", "raise SystemError('it was imported')", group=PLUGINS)
    assert start(max_steps=1).train().steps == 1


def test_a_tracker_that_nobody_has_is_refused_with_the_nearest(tracked: None, start: Start) -> None:
    with pytest.raises(ConfigError, match=r"'dairy' is none of the choices; did you mean 'diary'\?"):
        start(report_to="dairy")


@pytest.mark.parametrize("error", ["ValueError('the server is down')", "SystemExit(3)"])
def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(
    install_plugin: Install, start: Start, caplog: pytest.LogCaptureFixture, error: str
) -> None:
    install_plugin("fails", FAILS.format(error=error), group=PLUGINS)
    assert start(report_to="fails").train().steps == 6
    (told,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert told.startswith("the tracker 'fails' (aligntune-fails 1.0) failed in step() and is left out from now on: ")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("raise ImportError('no server')", PluginLoadError),
        ("import aligntune_core\n@aligntune_core.hookimpl\ndef provides_callbacks(): return [7]", PluginContractError),
        ("", PluginContractError),
    ],
)
def test_a_tracker_that_was_asked_for_and_is_broken_stops_the_run_before_it_writes(
    install_plugin: Install, start: Start, code: str, error: type[Exception]
) -> None:
    install_plugin("broken", code, group=PLUGINS)
    with pytest.raises(error):
        start(report_to="broken").train()
    assert not Path("run").exists()


def test_a_tracker_that_is_switched_off_says_by_what(
    tracked: None, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNTUNE_DISABLE_PLUGINS", "diary")
    with pytest.raises(BackendUnavailableError, match="plugin = 'diary': it is switched off by"):
        start(report_to="diary")
