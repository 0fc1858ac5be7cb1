"""`chat`: a conversation with a saved model, in a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from aligntune_core.cli.asking import asking_options, check_text, sampling_of
from aligntune_core.cli.untrusted import visible
from aligntune_core.errors import ConfigError

if TYPE_CHECKING:
    from aligntune_core.plugins.checked import CheckedModel
    from aligntune_core.saved_values import Sampling

COMMANDS = "/reset begins anew, /quit or Ctrl-D leaves, Ctrl-C ends an answer"


@click.command()
@click.argument("model")
@asking_options
def chat(
    model: str,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    system_prompt: str | None,
    backend: str,
    trust_remote_code: bool,
) -> None:
    """Talk with MODEL: a run folder, a checkpoint in it, a model folder or a hub name. It needs a terminal.

    Within it: /reset begins a new conversation, /quit or Ctrl-D leaves, Ctrl-C ends an answer.
    """
    from aligntune_core.saved.find import find_saved
    from aligntune_core.saved.opening import open_saved

    sampling = sampling_of(max_tokens, temperature, top_p, seed)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError(f"chat needs a terminal; use: aligntune generate {model} -")
    saved = find_saved(model, trust_remote_code=trust_remote_code)
    if saved.head.model_type == "classification":
        problem = "it gives labels or scores, and holds no conversation"
        raise ConfigError(problem, "use 'aligntune generate'", field="model", value=model)
    if saved.plain_text:
        remedy = "use 'aligntune generate'"
        raise ConfigError("its rows were plain text, so it has no conversations", remedy, field="model", value=model)
    click.secho(f"opening {visible(saved.name)} …", dim=True)
    opened = open_saved(saved, backend=backend, system_prompt=system_prompt, trust=trust_remote_code)
    with contextlib.closing(opened):
        opened.check_streams()
        opened.predict([], sampling)  # this loads the weights, so that what is wrong with them is told now
        click.echo(COMMANDS)
        _talk(opened, sampling)


def _talk(opened: CheckedModel, sampling: Sampling) -> None:
    """Ask and answer until the user leaves."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - input() edits lines and keeps a history once it is imported

    history: list[dict[str, str]] = []
    for line in _lines():
        if line == "/reset":
            history.clear()
            click.echo("a new conversation")
        elif line.startswith("/") and " " not in line:
            click.echo(f"there is no {visible(line)}: {COMMANDS}")
        else:
            history.append({"role": "user", "content": line})
            said = _answer(opened, history, sampling)
            history[-1:] = [history[-1], {"role": "assistant", "content": said}] if said else []


def _lines() -> Iterator[str]:
    """What the user writes, until /quit or Ctrl-D; empty lines are passed over."""
    while True:
        try:
            line = input("\n> ").strip()
            check_text(line, "that line")
        except EOFError:
            click.echo()
            return
        except (UnicodeDecodeError, click.UsageError):
            click.echo("that line is no UTF-8 text, and was not asked")
            continue
        except KeyboardInterrupt:
            click.echo()
            raise
        if line in ("/quit", "/exit"):
            return
        if line:
            yield line


def _answer(opened: CheckedModel, history: list[dict[str, str]], sampling: Sampling) -> str:
    """Print the answer as it is generated; returns it, or as much as there was before Ctrl-C."""
    said = ""
    try:
        with contextlib.closing(opened.stream(history, sampling)) as pieces:
            for piece in pieces:
                text = piece if said else piece.lstrip()
                said += text
                click.echo(visible(text), nl=False)
    except KeyboardInterrupt:
        click.echo(" …", nl=False)
    except ConfigError as error:
        click.secho("error: ", fg="red", bold=True, err=True, nl=False)
        click.echo(str(error), err=True)
        return ""
    click.echo("" if said.strip() else "(it says nothing)")
    return said.strip()
