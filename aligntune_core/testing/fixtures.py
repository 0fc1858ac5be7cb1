"""Pytest fixtures for plugin authors: `pytest_plugins = ["aligntune_core.testing.fixtures"]` in a conftest.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aligntune_core import installed
from aligntune_core.environment import Device, Environment
from aligntune_core.plugins import BackendRegistry
from aligntune_core.testing.entry_points import fake_entry, make_registry
from aligntune_core.testing.fake_backend import write_fake_model
from aligntune_core.testing.installed_plugin import write_plugin


@pytest.fixture
def environment() -> Environment:
    """A machine with a CPU and nothing else."""
    return Environment(devices=(Device("cpu"),))


@pytest.fixture
def use_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., BackendRegistry]]:
    """Give `use_registry(fake=FakeBackend(), …)`: for this test, these are the installed backends."""

    def install(**plugins: Any) -> BackendRegistry:
        registry = make_registry(*(fake_entry(name, plugin) for name, plugin in plugins.items()))
        monkeypatch.setattr(installed, "load_registry", lambda: registry)
        installed.forget_registry()
        return registry

    yield install
    installed.forget_registry()


@pytest.fixture
def install_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Give `install_plugin(name, code, …)`: for this test the plugin is installed; arguments as of `write_plugin`."""
    folder, modules = tmp_path / "site", []

    def install(name: str, code: str, **metadata: Any) -> Path:
        file = write_plugin(folder, name, code, **metadata)
        modules.append(file.stem)
        monkeypatch.syspath_prepend(folder)
        installed.forget_registry()
        return file

    yield install
    for module in modules:
        sys.modules.pop(module, None)
    installed.forget_registry()


@pytest.fixture
def fake_model(tmp_path: Path) -> Path:
    """A folder that passes core's checks of a checkpoint."""
    path = tmp_path / "fake-model"
    write_fake_model(path)
    return path


@pytest.fixture
def chat_file(tmp_path: Path) -> Path:
    """Eight rows of prompt and completion in a JSONL file."""
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"What is {n} + 1? ", "completion": str(n + 1)} for n in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test runs in an empty folder."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
