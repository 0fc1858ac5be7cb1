"""Plugins that were built for the first version work with this one, and will where a hook has one more argument."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligntune import get_trainer
from aligntune_core import Availability, Environment
from aligntune_core.cli.main import run
from aligntune_core.discovery import PLUGINS, Entry
from aligntune_core.hookspecs import BackendSpecs, PluginSpecs, hookspec
from aligntune_core.installed import default_registry
from aligntune_core.plugins import load_extension
from aligntune_core.plugins.manager import Hooks, specified

HERE = Path(__file__).parent
Install = Callable[..., Path]


@pytest.fixture
def installed(install_plugin: Install) -> None:
    install_plugin("veteran", (HERE / "first_version_backend.py").read_text("utf-8"), requires=["aligntune>=0.1"])
    plugin = (HERE / "first_version_plugin.py").read_text("utf-8")
    install_plugin("counter", plugin, group=PLUGINS, distribution="aligntune-counter", requires=["aligntune>=0.1"])


def test_they_train_follow_resume_and_bring_commands(
    installed: None, fake_model: Path, chat_file: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"model_name": str(fake_model), "dataset_name": str(chat_file), "output_dir": "run"}
    with get_trainer("sft", "veteran", max_steps=3, report_to="counter", **settings) as trainer:
        trainer.listen()
        assert trainer.train().steps == 3
    assert Path("run/count.txt").read_text("utf-8") == "3 of 3"
    assert json.loads(Path("run/run.json").read_text("utf-8"))["selection"]["backend"] == "veteran"
    assert run(["counter", "hello"]) == 0
    assert "good day" in capsys.readouterr().out


class FutureBackendSpecs:
    """The hooks of a later version: each is given one thing more."""

    @hookspec(firstresult=True)
    def provides_algorithms(self, later: object) -> Any: ...

    @hookspec(firstresult=True)
    def is_available(self, environment: object, request: object, later: object) -> Any: ...

    @hookspec(firstresult=True)
    def build_trainer(self, request: object, later: object) -> Any: ...

    @hookspec(firstresult=True)
    def build_preview(self, request: object, later: object) -> Any: ...

    @hookspec(firstresult=True)
    def isolation(self, folder: object, later: object) -> Any: ...

    @hookspec(firstresult=True)
    def tiny_model(self, model_type: object, path: object, later: object) -> Any: ...

    @hookspec(firstresult=True)
    def open_model(self, request: object, later: object) -> Any: ...


class FuturePluginSpecs:
    """The same for the other group."""

    @hookspec(firstresult=True)
    def provides_commands(self, later: object) -> Any: ...

    @hookspec(firstresult=True)
    def provides_callbacks(self, run: object, later: object) -> Any: ...

    @hookspec(firstresult=True)
    def provides_rewards(self, later: object) -> Any: ...


PAIRS = [(BackendSpecs, FutureBackendSpecs), (PluginSpecs, FuturePluginSpecs)]


@pytest.mark.parametrize(("now", "future"), PAIRS)
def test_the_future_has_every_hook_of_today_with_one_argument_more(now: type, future: type) -> None:
    assert specified(future) == specified(now)
    for hook in specified(now):
        before, after = (list(inspect.signature(getattr(specs, hook)).parameters) for specs in (now, future))
        assert after == [*before, "later"]


def in_the_future(entry: Entry, specs: type) -> Hooks:
    return Hooks(entry, entry.load(), specs, (), trace=False)


def test_an_argument_that_is_added_later_breaks_no_backend_of_today(installed: None, tmp_path: Path) -> None:
    hooks = in_the_future(default_registry().backends["veteran"].entry, FutureBackendSpecs)
    assert [claim.algorithm for claim in hooks.call("provides_algorithms", later=1)] == ["sft"]
    assert hooks.call("is_available", environment=Environment(), request=None, later=1) == Availability(True)
    assert hooks.call("tiny_model", model_type="causal_lm", path=tmp_path, later=1) is False


def test_an_argument_that_is_added_later_breaks_no_plugin_of_today(installed: None) -> None:
    hooks = in_the_future(load_extension("counter").entry, FuturePluginSpecs)
    assert [command.name for command in hooks.call("provides_commands", later=1)] == ["hello"]
