"""Commands that plugins bring, and what `--help` knows of plugins."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aligntune_core.cli.main import run
from aligntune_core.discovery import PLUGINS

Install = Callable[..., Path]
GREET = """
import click
from aligntune_core import hookimpl


@hookimpl
def provides_commands():
    @click.command()
    @click.argument("name")
    def greet(name):
        "Say good day to NAME."
        {body}

    return [greet]
"""


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    logger = logging.getLogger("aligntune")
    before = list(logger.handlers)
    logger.handlers.clear()
    yield
    logger.handlers[:] = before


def test_a_command_of_a_plugin_runs_under_the_plugins_name(
    install_plugin: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install_plugin("manners", GREET.format(body='click.echo(f"good day, {name}")'), group=PLUGINS)
    assert run(["manners", "greet", "Ada"]) == 0
    assert capsys.readouterr().out == "good day, Ada\n"
    assert run(["manners", "--help"]) == 0
    out = capsys.readouterr().out
    assert "Commands of the plugin 'manners' (aligntune-manners 1.0)." in out
    assert "Say good day to NAME." in out


def test_help_names_what_is_installed_and_imports_none_of_it(
    install_plugin: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    bomb = install_plugin("bomb", "raise SystemExit", group=PLUGINS)
    mine = install_plugin("mine", "raise SystemExit")
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert "Commands of plugins:\n  bomb" in out
    assert "mine" in out.partition("Backends:")[2].partition("\n\n")[0]
    assert {bomb.stem, mine.stem}.isdisjoint(sys.modules)


def test_a_plugin_cannot_replace_a_command_of_ours(install_plugin: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install_plugin("explain", "raise SystemError('it was imported')", group=PLUGINS)
    assert run(["explain", "sft"]) == 0
    assert run(["--help"]) == 0
    assert "Commands of plugins" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "exit_code", "says"),
    [
        (
            "raise ImportError('no click')",
            3,
            "plugin = 'odd': this plugin cannot be loaded (aligntune-odd 1.0, while",
        ),
        ("from aligntune_core import hookimpl\n@hookimpl\ndef provides_callbacks(): return []", 2, "has no commands"),
        ("from aligntune_core import hookimpl\n@hookimpl\ndef provides_commands(): return ['x']", 3, "is no Command"),
        ("from aligntune_core import hookimpl\n@hookimpl\ndef provides_commands(): return 1 / 0", 3, "by zero"),
        (
            GREET.format(body="raise ValueError('oops')"),
            3,
            "a command of the plugin 'odd' (aligntune-odd 1.0)",
        ),
        (GREET.format(body="raise click.UsageError('no such name')"), 2, "command line: no such name"),
        (GREET.format(body="raise SystemExit(5)"), 5, ""),
    ],
)
def test_what_goes_wrong_in_a_plugins_command_has_its_code_and_names_it(
    install_plugin: Install, capsys: pytest.CaptureFixture[str], code: str, exit_code: int, says: str
) -> None:
    install_plugin("odd", code, group=PLUGINS)
    assert run(["odd", "greet", "Ada"]) == exit_code
    assert says in capsys.readouterr().err


def test_a_misspelt_plugin_is_told_the_nearest(install_plugin: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install_plugin("manners", GREET.format(body="pass"), group=PLUGINS)
    assert run(["maners"]) == 2
    assert "did you mean 'manners'?" in capsys.readouterr().err


OWN = """
from aligntune_core import Algorithm, AlgorithmSupport, Support, hookimpl
from aligntune_core.config import CORE_SETTINGS, SftConfig
from aligntune_core.config.settings import setting
from aligntune_core.testing import FakeBackend


class WhisperConfig(SftConfig):
    algorithm = "whisper"
    volume: float = setting(0.5, "How loud it is.", "the whisper paper")


class Plugin(FakeBackend):
    @hookimpl
    def provides_algorithms(self):
        about = Algorithm(name="whisper", title="Whisper", summary="Train in a low voice.", paper="Ada 1843")
        cells = {("instruction_following", "causal_lm"): Support("full")}
        names = frozenset(WhisperConfig.model_fields)
        return [AlgorithmSupport(algorithm="whisper", cells=cells, settings=names, config=WhisperConfig, about=about)]


plugin = Plugin()
"""


@pytest.fixture
def whisper(install_plugin: Install) -> None:
    install_plugin("quiet", OWN, attribute="plugin")


def test_the_settings_of_a_plugins_algorithm_are_flags(whisper: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Whisper: --volume X How loud it is. [0.5]" in out


def test_a_plugins_algorithm_trains_with_its_own_setting(
    whisper: None, fake_model: Path, chat_file: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--model-name={fake_model}", f"--dataset-name={chat_file}", "--output-dir=run", "--max-steps=1"]
    assert run(["train", "--algorithm", "Whisper", "--volume=0.25", *flags]) == 0
    assert '"volume": 0.25' in Path("run/run.json").read_text("utf-8")
    assert run(["train", "--algorithm", "whisper", "--volume=loud", *flags]) == 2
    assert "error: volume = 'loud': must be a number; the default is 0.5" in capsys.readouterr().err
    assert run(["train", "--volume=0.25", *flags]) == 2
    assert "error: volume: no setting has this name" in capsys.readouterr().err


def test_the_matrix_and_explain_know_a_plugins_algorithm(whisper: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["matrix"]) == 0
    assert "Whisper" in capsys.readouterr().out
    assert run(["explain", "whisper"]) == 0
    out = capsys.readouterr().out
    assert "Whisper  (whisper)\nsummary:  Train in a low voice.\npaper:    Ada 1843\nbackends: quiet" in out
    assert "the whisper paper" in out
