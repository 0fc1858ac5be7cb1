"""Bad input that is caught before a training library is imported: the first document of each file of cases."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from aligntune_core import installed
from aligntune_core.cli.main import run
from aligntune_core.plugins import Backend
from aligntune_core.testing.bad_inputs import call, check_text, fakes, held, lay_out, picture, read_cases, run_earlier

CASES = read_cases(Path(__file__).parent)


@pytest.fixture
def alone(tmp_path: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, no network, no cache but its own, and of the installed backends TRL alone."""
    monkeypatch.setenv("ALIGNTUNE_PLUGINS", "trl")
    installed.forget_registry()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    yield in_tmp
    installed.forget_registry()


def _no_backend(*args: Any) -> NoReturn:
    raise AssertionError("a training library was about to be imported")


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_bad_input(
    case: dict[str, Any],
    alone: Path,
    use_registry: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lay_out(case, alone)
    if "earlier" in case:
        run_earlier(case, alone, use_registry)
    if "earlier" in case or "fake" in case:
        use_registry(**fakes(case.get("fake")))
    else:
        for hook in ("build_trainer", "build_preview"):
            monkeypatch.setattr(Backend, hook, _no_backend)
    for name, value in case.get("env", {}).items():
        monkeypatch.setenv(name, value)
    had_torch = "torch" in sys.modules
    with held(case.get("locked"), alone):
        before = picture(case, alone)
        capsys.readouterr()
        code = call(case["call"]) if "call" in case else run(case.get("argv", ["train", "run.yaml"]))
        after = picture(case, alone)
    text = "\n".join(capsys.readouterr())
    check_text(case, text)
    assert code == case.get("exit", 2), text
    assert had_torch or "torch" not in sys.modules
    assert after == before
