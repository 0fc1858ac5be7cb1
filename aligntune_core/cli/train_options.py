"""A flag for every setting, those of the plugins' own algorithms among them, made from the settings themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click

from aligntune_core.cli.lazy import GroupedCommand
from aligntune_core.config import CONFIGS, TrainingConfig
from aligntune_core.config.aliases import ALIASES
from aligntune_core.config.describe import Setting, describe
from aligntune_core.plugins import BackendRegistry


class SettingOption(click.Option):
    """A flag of one setting. Its value is checked with the file's, so that all errors come at once."""

    def __init__(self, setting: Setting, name: str, *, hidden: bool) -> None:
        flag = f"--{name.replace('_', '-')}"
        boolean = setting.type == "true or false" or setting.name == "resume"
        extra: dict[str, Any] = {"is_flag": False, "flag_value": "true"} if boolean else {}
        help_text = f"{setting.description} [{setting.default}]" if setting.default else setting.description
        metavar = "[true|false]" if boolean else setting.metavar
        super().__init__([flag, f"setting_{name}"], help=help_text, hidden=hidden, metavar=metavar, **extra)
        self.panel = setting.group


def _options(classes: list[type[TrainingConfig]], known: set[str]) -> list[click.Parameter]:
    """The flags of those settings that are not known yet, each with a hidden one for every other name."""
    options: list[click.Parameter] = []
    for cls in classes:
        for setting in describe(cls):
            if setting.name not in known:
                known.add(setting.name)
                options.append(SettingOption(setting, setting.name, hidden=False))
                options += [SettingOption(setting, alias, hidden=True) for alias in ALIASES.get(setting.name, ())]
    return options


@cache
def setting_options(registry: BackendRegistry) -> list[click.Parameter]:
    """The flags of core's algorithms and of those that these backends bring."""
    brought = [claim.config for backend in registry for claim in backend.algorithms.values() if claim.config]
    return _options([*CONFIGS.values(), *brought], set())


class TrainCommand(GroupedCommand):
    """A command with a flag for each setting of core's algorithms and of those that plugins bring, beside its own."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        from aligntune_core.installed import default_registry

        return [*super().get_params(ctx), *setting_options(default_registry())]


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What says which run is meant: a settings file, the algorithm and the backend."""
    text = "Who trains: auto or a backend's name [auto, or what CONFIG says]."
    command = click.option("--backend", metavar="NAME", help=text)(command)
    command = click.option("--algorithm", metavar="NAME", help="What to train [sft, or what CONFIG says].")(command)
    return click.argument("config", required=False, type=click.Path(path_type=Path))(command)


def settings_of(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given as flags, by name."""
    return {name.removeprefix("setting_"): value for name, value in flags.items() if value is not None}


def algorithm_of(asked: str | None, config: Path | None, settings: Mapping[str, Any]) -> str:
    """The algorithm: what was asked for, else what the settings file or the run to resume says, else SFT."""
    from aligntune_core.checks import layers_of

    if asked is not None:
        return asked
    named = [layer.settings["algorithm"] for layer in layers_of(config, settings) if "algorithm" in layer.settings]
    return str(named[-1]) if named else "sft"
