"""`aligntune`: the group of commands, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
from typing import NoReturn

import click

from aligntune_core.cli.lazy import LazyGroup
from aligntune_core.cli.output import show_messages

_SHOW = "aligntune_core.cli.show"
COMMANDS = {
    "demo": ("aligntune_core.cli.demo:demo", "Train a small model on this machine in about a minute, offline."),
    "train": ("aligntune_core.cli.train:train", "Fine-tune a model."),
    "generate": ("aligntune_core.cli.generate:generate", "Answer prompts with a saved model."),
    "chat": ("aligntune_core.cli.chat:chat", "Talk with a saved model, in a terminal."),
    "export": ("aligntune_core.cli.export:export", "Write a saved model to a folder; merge its adapter."),
    "preview": ("aligntune_core.cli.preview:preview", "Show rows as the model sees them, trained tokens coloured."),
    "compare": ("aligntune_core.cli.compare:compare", "The same run on several backends, side by side."),
    "validate": ("aligntune_core.cli.check:validate", "Check a configuration without training."),
    "explain": ("aligntune_core.cli.check:explain", "Show an algorithm: formula, paper, defaults and their sources."),
    "list-backends": (f"{_SHOW}:list_backends", "Which backends are installed and can run here."),
    "list-backends-cmd": (f"{_SHOW}:list_backends", "The same as list-backends."),
    "matrix": (f"{_SHOW}:matrix", "What each installed backend trains."),
    "plugins": (
        "aligntune_core.cli.plugins:plugins",
        "The installed plugins, and what is wrong with those that fail.",
    ),
    "plugin": ("aligntune_core.cli.scaffold:plugin", "Write a backend of your own: 'aligntune plugin new NAME'."),
    "diagnose": ("aligntune_core.cli.diagnose:diagnose", "Versions, devices, backends, and what to mend."),
    "completion": ("aligntune_core.cli.check:completion", "Print the completion script of a shell."),
}

_STATE = "aligntune_core.plugins.process_state"
LONGEST_LINE = 500
HEAVY = frozenset({"demo", "train", "preview", "generate", "chat", "export", "compare"})
"""Commands that load a training library; the others answer at once."""


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"aligntune {version('aligntune')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    hidden=frozenset({"list-backends-cmd"}),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def app() -> None:
    """Fine-tune and align language models through backends that are plugins.

    Start with 'aligntune demo', then 'aligntune train --model-name … --dataset-name …'.
    """


def _say(text: str) -> None:
    for line in text.splitlines():
        click.secho("error: ", fg="red", bold=True, err=True, nl=False)
        click.echo(line, err=True)


def _usage(error: click.ClickException) -> str:
    """What is wrong with a command line, in the form of our other errors."""
    from aligntune_core.errors import Problem

    context = error.ctx if isinstance(error, click.UsageError) else None
    remedy = f"see '{context.command_path if context else 'aligntune'} --help'"
    if isinstance(error, click.NoSuchOption):
        if error.possibilities:
            remedy = f"did you mean {' or '.join(error.possibilities)}?"
        return str(Problem.of(error.option_name, "there is no such option", remedy))
    if isinstance(error, click.BadOptionUsage):
        text = error.format_message().removeprefix(f"Option '{error.option_name}' ").rstrip(".")
        remedy = f"write {error.option_name} VALUE" if "requires" in text else "write it alone"
        return str(Problem.of(error.option_name, text, remedy))
    text, _, own_remedy = error.format_message().removeprefix("Got ").rstrip(".").partition("; ")
    return str(Problem.of("command line", text, own_remedy or remedy))


def _print_traceback(error: BaseException) -> None:
    """A traceback on standard error: printable text in lines of a sane length, whatever the error says."""
    import traceback

    from aligntune_core.errors import first_line, one_line

    try:
        lines = "".join(traceback.format_exception(error)).splitlines()
    except Exception as second:  # noqa: BLE001 - an error whose text cannot even be made
        lines = [f"{type(error).__name__}, whose text cannot be made: {first_line(second)}"]
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        click.echo(indent[:80] + one_line(line, LONGEST_LINE), err=True)


def _fail(error: BaseException) -> int:
    """Tell the user what went wrong, and give the exit code."""
    from aligntune_core.errors import AlignTuneError, Problem, RunInterrupted, blamed, told
    from aligntune_core.ours import EXTRAS, owner

    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message())
        return 2
    if isinstance(error, click.ClickException):
        _say(_usage(error))
        return 2
    if isinstance(error, AlignTuneError):
        _say(str(error))
        return error.exit_code
    interrupted = error.__cause__ if isinstance(error, click.Abort) else error  # click turns Ctrl-C into Abort
    if isinstance(interrupted, RunInterrupted):
        click.echo(str(interrupted), err=True)
        return interrupted.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        where = blamed(interrupted) if isinstance(interrupted, KeyboardInterrupt) else None
        click.echo(f"stopped in {where}" if where else "stopped", err=True)
        return 130
    _print_traceback(error)
    culprit = blamed(error)
    if culprit is None or any(f"({owner(name)} " in culprit for name in EXTRAS):
        _say(f"this is a bug of AlignTune: {told(error)}")
        return 1
    _say(str(Problem.of(culprit, told(error), "the traceback is above; report it to the plugin's authors")))
    return 3


def run(arguments: list[str] | None = None) -> int:
    """Run a command line; returns its exit code."""
    try:
        show_messages(logging.WARNING)
        code = app.main(args=arguments, prog_name="aligntune", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader went away: nothing to tell
        return 0
    except SystemExit as end:  # a command's own code, or click's after completion
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:  # noqa: BLE001 - every end of a command passes here
        return _fail(error)


def main() -> NoReturn:
    """The console script."""
    light = HEAVY.isdisjoint(called := sys.argv[1:2]) and (not called or called[0] in COMMANDS or called[0][0:1] == "-")
    if light:
        gc.disable()  # it ends before there is anything worth collecting
    code = run()
    if light:
        _end(code)  # nothing is open; taking a few thousand objects apart would cost a seventh of the time
    if any(thread.is_alive() for thread in getattr(sys.modules.get(_STATE), "left_running", ())):
        _end(code)  # a plugin was warned of; Python would wait for its thread, maybe for ever
    sys.exit(code)


def _end(code: int) -> NoReturn:
    """End without waiting for anything."""
    with contextlib.suppress(OSError, ValueError):  # the reader went away, or a stream is closed: nothing to tell
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
