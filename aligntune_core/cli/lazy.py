"""Commands that are imported only when they run, and help that is grouped."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from aligntune_core.cli.extensions import plugin_group, plugin_names
from aligntune_core.discovery import BACKENDS, names


class LazyGroup(click.Group):
    """A group that knows its commands by name, home and one-line help, so that `--help` imports none of them.

    Args:
        lazy: name → ("module:attribute", one-line help).
        hidden: names that work but are not listed.
    """

    def __init__(
        self, *args: Any, lazy: Mapping[str, tuple[str, str]], hidden: frozenset[str] = frozenset(), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy, self.hidden_names = lazy, hidden

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in self.lazy if name not in self.hidden_names] + self._plugins()

    def _plugins(self) -> list[str]:
        """Our own commands cannot be replaced: a plugin that is called like one has none here."""
        return [name for name in plugin_names() if name not in self.lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.lazy:
            module, _, attribute = self.lazy[cmd_name][0].partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        return plugin_group(cmd_name) if cmd_name in self._plugins() else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, text) for name, (_, text) in self.lazy.items() if name not in self.hidden_names]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        installed = {"Backends": names(BACKENDS), "Commands of plugins": self._plugins()}
        for title, found in installed.items():
            if found:
                with formatter.section(title):
                    formatter.write_text(", ".join(found))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.lazy and not args[0].startswith("-") and args[0] not in self._plugins():
            import difflib  # only a wrong name needs it

            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" did you mean '{close[0]}'?" if close else " see 'aligntune --help'"
            raise click.UsageError(f"no command '{args[0][:60]}';{hint}", ctx=ctx)
        return super().resolve_command(ctx, args)


class GroupedCommand(click.Command):
    """A command whose options are listed under headings; an option's heading is its `panel` attribute."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                panels.setdefault(getattr(parameter, "panel", "Options"), []).append(record)
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records)
