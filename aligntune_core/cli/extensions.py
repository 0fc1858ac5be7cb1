"""Commands that plugins bring: `aligntune NAME COMMAND`, where NAME is the plugin's. Only that plugin is imported."""

from __future__ import annotations

from typing import Any

import click

from aligntune_core.discovery import PLUGINS, names
from aligntune_core.errors import AlignTuneError, blame


class PluginGroup(click.Group):
    """The commands of one plugin; what they raise says whose they are."""

    def __init__(self, *args: Any, origin: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._origin = origin

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, AlignTuneError):
            raise
        except Exception as error:
            blame(error, f"a command of the plugin '{self.name}' ({self._origin})")
            raise


def plugin_names() -> list[str]:
    """The plugins that may have commands, from metadata alone."""
    return names(PLUGINS)


def plugin_group(name: str) -> click.Group:
    """The commands of a plugin that was called.

    Raises:
        PluginLoadError, PluginContractError, BackendUnavailableError: it cannot be loaded, or is switched off.
        click.UsageError: it has none.
    """
    from aligntune_core.plugins import load_extension

    extension = load_extension(name)
    commands = dict(extension.commands)
    if not commands:
        raise click.UsageError(
            f"the plugin '{name}' ({extension.entry.origin}) has no commands; see 'aligntune plugins'"
        )
    text = f"Commands of the plugin '{name}' ({extension.entry.origin})."
    return PluginGroup(name, commands=commands, help=text, origin=extension.entry.origin)
