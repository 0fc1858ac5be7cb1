"""The options of the commands that ask a saved model, and the checks that they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from aligntune_core.saved_values import Sampling
from aligntune_core.selector import AUTO

Command = Callable[..., Any]
NO_TEXT = "{} is no UTF-8 text; convert it"


def _finite(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("give a number", ctx=ctx, param=parameter)
    return value


_OPTIONS = (
    click.option("--max-tokens", type=click.IntRange(1), metavar="N", help="Tokens of an answer at most [256]."),
    click.option(
        "--temperature", type=click.FloatRange(0), callback=_finite, metavar="T", help="0: the likeliest token [0]."
    ),
    click.option(
        "--top-p",
        type=click.FloatRange(0, 1, min_open=True),
        callback=_finite,
        metavar="P",
        help="Draw from the likeliest tokens that together have this probability [1].",
    ),
    click.option("--seed", type=click.IntRange(0, 2**32 - 1), metavar="N", help="Seed of the draws [none]."),
    click.option("--system-prompt", metavar="TEXT", help="Instead of the run's; for conversations."),
)
_OPENING = (
    click.option("--backend", metavar="NAME", default=AUTO, help="Who opens it [who trained it, or auto]."),
    click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model."),
)


def _with(options: tuple[Callable[[Command], Command], ...], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def opening_options(command: Command) -> Command:
    """Options that say who opens the model."""
    return _with(_OPENING, command)


def asking_options(command: Command) -> Command:
    """Options that say how it answers, and who opens it."""
    return _with((*_OPTIONS, *_OPENING), command)


def check_text(text: str, what: str) -> None:
    """Refuse what a tokenizer cannot read: bytes that were no UTF-8, and halves of characters.

    Raises:
        click.UsageError: `what` holds such.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise click.UsageError(NO_TEXT.format(what)) from error


def sampling_of(max_tokens: int | None, temperature: float | None, top_p: float | None, seed: int | None) -> Sampling:
    """How answers are drawn.

    Raises:
        click.UsageError: a value has no effect, because nothing is drawn.
    """
    if not temperature:
        idle = [name for name, value in (("--top-p", top_p), ("--seed", seed)) if value is not None]
        if idle:
            raise click.UsageError(f"{idle[0]} has no effect without --temperature above 0; give both or neither")
    return Sampling(
        max_tokens=max_tokens,
        temperature=temperature or 0.0,
        top_p=1.0 if top_p is None else top_p,
        seed=seed,
    )
