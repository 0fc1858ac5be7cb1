"""`aligntune compare`: the same steps on several backends, and what each took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aligntune_core.cli.main import run

CODE = """
import time
from aligntune_core.testing import FakeBackend

def happen(step):
    {happen}

plugin = FakeBackend(on_step=happen)
"""


@pytest.fixture
def settings(install_plugin: Any, in_tmp: Path, fake_model: Path, chat_file: Path) -> Path:
    """A settings file, and two backends: one takes its time."""
    install_plugin("quick", CODE.format(happen="pass"), attribute="plugin")
    install_plugin("slow", CODE.format(happen="time.sleep(0.05)"), attribute="plugin")
    path = Path("run.yaml")
    path.write_text(f"model_name: {fake_model}\ndataset_name: {chat_file}\nnum_epochs: 2\n", "utf-8")
    return path


def compare(settings: Path, backends: str, *more: str) -> int:
    return run(["compare", str(settings), "--backends", backends, "--steps", "5", "--output-dir", "out", *more])


def test_each_backend_has_a_row_and_numbers_that_were_measured(settings: Path, capsys: Any) -> None:
    assert compare(settings, "quick,slow", "--json") == 0
    found = {one["backend"]: one for one in json.loads(capsys.readouterr().out)["backends"]}
    assert list(found) == ["quick", "slow"]
    for one in found.values():
        assert one["losses"] == {"1": 1.0, "2": 0.5, "3": pytest.approx(1 / 3), "4": 0.25, "5": 0.2}
        assert list(one["seconds"]) == ["2", "3", "4", "5"]
        assert one["memory"]["host"] > 2**20
        assert one["memory"]["gpu"] is None
        assert one["tokens_per_second"] is None
    assert found["slow"]["step"] > 0.05 > found["quick"]["step"]


def test_what_nobody_measured_is_a_dash(settings: Path, capsys: Any) -> None:
    assert compare(settings, "quick") == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.strip().startswith("quick"))
    assert row.split()[-1] == "–"
    assert "page: out/compare.html" in out


def test_the_page_and_the_numbers_are_in_the_folder_with_the_runs(settings: Path) -> None:
    compare(settings, "quick,slow")
    assert sorted(path.name for path in Path("out").iterdir()) == ["compare.html", "compare.json", "quick", "slow"]
    page = Path("out/compare.html").read_text("utf-8")
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "quick" in page
    assert "slow" in page


def test_a_backend_that_fails_is_told_and_the_others_are_measured(
    settings: Path, install_plugin: Any, capsys: Any
) -> None:
    install_plugin("broken", CODE.format(happen="raise ZeroDivisionError('by nothing')"), attribute="plugin")
    assert compare(settings, "broken,quick", "--json") == 3
    told = capsys.readouterr()
    found = {one["backend"]: one for one in json.loads(told.out)["backends"]}
    assert found["broken"]["error"] == "ZeroDivisionError: by nothing"
    assert found["quick"]["error"] == ""
    assert "broken: ZeroDivisionError: by nothing" in told.err


@pytest.mark.parametrize(
    ("backends", "text"),
    [
        ("quick,nobody", "no backend has this name"),
        ("quick,quick", "names no backend, or one twice"),
        (",", "names no backend, or one twice"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_trains(settings: Path, capsys: Any, backends: str, text: str) -> None:
    assert compare(settings, backends) == 2
    assert text in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_folder_with_something_in_it_is_refused(settings: Path, capsys: Any) -> None:
    Path("out").mkdir()
    Path("out/mine.txt").touch()
    assert compare(settings, "quick") == 2
    assert "the folder is not empty" in capsys.readouterr().err


def test_diagnose_deep_imports_the_libraries_in_another_process(install_plugin: Any, in_tmp: Path, capsys: Any) -> None:
    code = """
from aligntune_core import Isolation, hookimpl
from aligntune_core.testing import FakeBackend

class Deep(FakeBackend):
    @hookimpl
    def isolation(self):
        return Isolation(proof=({module!r},))

plugin = Deep()
"""
    install_plugin("fine", code.format(module="colorsys"), attribute="plugin")
    install_plugin("lacking", code.format(module="no_such_module"), attribute="plugin")
    assert run(["diagnose", "--deep", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["imports"]["fine"]["ok"] is True
    assert found["imports"]["lacking"]["error"].startswith("ModuleNotFoundError: No module named 'no_such_module'")
    assert any("backend lacking: its libraries cannot be imported" in p["what"] for p in found["problems"])
