"""The command line, from its click commands."""

from __future__ import annotations

import inspect

import click

from _generate.markdown import code, fence, table
from _generate.markdown import page as make_page
from aligntune_core.cli.main import COMMANDS, app
from aligntune_core.cli.train_options import TrainCommand, setting_options
from aligntune_core.plugins import BackendRegistry


def _parameters(command: click.Command) -> list[click.Parameter]:
    """Those that are there without any plugin; the settings stand once, with `train`."""
    settings = setting_options(BackendRegistry()) if command.name == "train" else []
    return [*command.params, *settings]


def _options(command: click.Command, context: click.Context) -> str:
    """A table of options under each heading that `--help` has."""
    panels: dict[str, list[list[str]]] = {}
    for parameter in _parameters(command):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option) and parameter.name != "help":
            panels.setdefault(getattr(parameter, "panel", "Options"), []).append([code(record[0]), record[1]])
    return "\n\n".join(table([name, "meaning"], rows) for name, rows in panels.items())


def _help(command: click.Command) -> str:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(code(text) if text.startswith("aligntune ") else text for text in paragraphs)


def _section(name: str, group: click.Context) -> str:
    command = app.get_command(group, name)
    if command is None:
        raise LookupError(name)
    context = click.Context(command, parent=group, info_name=name)
    parts = [f"## {code(f'aligntune {name}')}", _help(command)]
    if isinstance(command, click.Group):
        parts += [_called(command.commands[each], each, context) for each in sorted(command.commands)]
        return "\n\n".join(parts)
    parts[1:1] = [_usage(command, context)]
    parts += [_options(command, context)]
    if isinstance(command, TrainCommand) and name != "train":
        parts += ["Each setting is a flag here too, as with [`aligntune train`](#aligntune-train)."]
    return "\n\n".join(parts)


def _usage(command: click.Command, context: click.Context) -> str:
    pieces = [piece for p in command.params if not isinstance(p, click.Option) for piece in p.get_usage_pieces(context)]
    return fence(" ".join([context.command_path, "[OPTIONS]", *pieces]), "text")


def _called(command: click.Command, name: str, group: click.Context) -> str:
    """A command of a group."""
    context = click.Context(command, parent=group, info_name=name)
    title = f"### {code(context.command_path)}"
    return "\n\n".join([title, _usage(command, context), _help(command), _options(command, context)])


def page() -> str:
    """The page of all commands."""
    group = click.Context(app, info_name="aligntune", help_option_names=["-h", "--help"])
    shown = [name for name in COMMANDS if name not in app.hidden_names]
    overview = table(["command", "does"], [[f"[{code(name)}](#aligntune-{name})", COMMANDS[name][1]] for name in shown])
    hidden = [(code(f"aligntune {name}"), COMMANDS[name][1]) for name in COMMANDS if name not in shown]
    also = "\n".join(f"Not listed: {name}. {does}" for name, does in hidden)
    exits = "What the exit codes mean is in [Errors and exit codes](errors.md#exit-codes)."
    settings = "A flag of `train` is a setting of [Settings](configuration.md); its other names work as flags too."
    return make_page("Command line", overview, also, exits, settings, *(_section(name, group) for name in shown))
