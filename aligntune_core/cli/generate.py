"""`generate`: what a saved model answers."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import click

from aligntune_core.cli.asking import NO_TEXT, asking_options, check_text, sampling_of
from aligntune_core.cli.output import json_option, print_json
from aligntune_core.cli.untrusted import visible


@click.command()
@click.argument("model")
@click.argument("prompts", nargs=-1, metavar="PROMPT...")
@click.option("--messages", is_flag=True, help="Each PROMPT is a conversation: a JSON list of {role, content}.")
@asking_options
@json_option
def generate(
    model: str,
    prompts: tuple[str, ...],
    messages: bool,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    system_prompt: str | None,
    backend: str,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Answer each PROMPT with MODEL: a run folder, a checkpoint in it, a model folder or a hub name.

    A model of a run answers as the run's own `predict`: the same template, system prompt and ends, the adapter on its
    base. A reward model is given questions with their answers, and scores them. `-` reads prompts from standard input,
    one a line.

    aligntune generate runs/NAME "What is a token?"
    """
    from aligntune_core.saved.find import find_saved
    from aligntune_core.saved.opening import open_saved

    sampling = sampling_of(max_tokens, temperature, top_p, seed)
    asked = [_conversation(text) if messages else text for text in _texts(prompts)]
    saved = find_saved(model, trust_remote_code=trust_remote_code)
    opened = open_saved(saved, backend=backend, system_prompt=system_prompt, trust=trust_remote_code)
    with contextlib.closing(opened):
        answers = opened.predict(asked, sampling)
    if as_json:
        pairs = [{"prompt": question, "answer": answer} for question, answer in zip(asked, answers, strict=True)]
        print_json({"model": saved.model, "answers": pairs})
        return
    for number, (question, answer) in enumerate(zip(asked, answers, strict=True)):
        if len(asked) > 1:
            click.echo("\n" if number else "", nl=False)
            click.secho(_printed(question if isinstance(question, str) else question[-1]["content"]), bold=True)
        click.echo(_printed(_shown(answer)), color=True)  # else click takes out what looks like a colour


def _texts(prompts: tuple[str, ...]) -> list[str]:
    """The prompts, with the lines of standard input in the place of `-`.

    Raises:
        click.UsageError: there is none.
    """
    found: list[str] = []
    for prompt in prompts:
        found += _read_lines() if prompt == "-" else [prompt]
    if not found:
        remedy = "write one, or - to read them from standard input, one a line"
        raise click.UsageError(f"there is no prompt; {remedy}")
    if any(not text.strip() for text in found):
        raise click.UsageError("a prompt is empty; write what the model is to answer")
    for text in found:
        check_text(text, "a prompt")
    return found


def _read_lines() -> list[str]:
    """The lines of standard input that are not empty.

    Raises:
        click.UsageError: they are no UTF-8.
    """
    try:
        return [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
    except UnicodeDecodeError as error:
        raise click.UsageError(NO_TEXT.format("standard input")) from error


def _conversation(text: str) -> list[dict[str, Any]]:
    """A conversation that was given as JSON.

    Raises:
        click.UsageError: it is none, or a role or a content is wrong.
    """
    from aligntune_core.data.parts import messages_of

    remedy = 'write it as [{"role": "user", "content": "…"}], or leave out --messages'
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise click.UsageError(f"'{visible(text[:60])}' is no conversation; {remedy}")
    try:
        messages = messages_of(found, "--messages")
    except ValueError as error:
        raise click.UsageError(f"{str(error).removeprefix('column ')}; {remedy}") from error
    for message in messages:
        check_text(message["content"], "a message")
    return messages


def _shown(answer: Any) -> str:
    """An answer as people read it: text as it is, a score with its digits, anything else as JSON."""
    if isinstance(answer, float):
        return f"{answer:.4f}"
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def _printed(text: str) -> str:
    """As it was generated into a file or a pipe; on a terminal, without what that would obey."""
    return visible(text) if sys.stdout.isatty() else text.encode("utf-8", "replace").decode()
