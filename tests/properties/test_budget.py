"""How many cases the property tests here try, counted and not claimed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CASES = 20_000


def _tests(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path.name == Path(__file__).name:
            continue
        spec = importlib.util.spec_from_file_location(f"counted_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        spec.loader.exec_module(module)
        yield from (thing for name, thing in vars(module).items() if name.startswith("test_"))


def _times(test: Any) -> int:
    """How often pytest runs it, each time with all its cases."""
    times = 1
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "parametrize":
            times *= len(mark.args[1])
    return times


def test_at_least_20000_cases_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [test for test in _tests(monkeypatch) if getattr(test, "is_hypothesis_test", False)]
    assert sum(_times(test) * test._hypothesis_internal_use_settings.max_examples for test in found) >= CASES
