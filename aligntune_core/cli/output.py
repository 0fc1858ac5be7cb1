"""What commands print: tables on a terminal or in a pipe, JSON, and AlignTune's own messages."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import click

from aligntune_core.cli.untrusted import in_a_line, visible


def print_json(content: Any) -> None:
    """Print as JSON, one document; what a terminal would obey is written as JSON's escapes."""
    click.echo(visible(json.dumps(content, indent=2, default=str, ensure_ascii=False)))


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that fits the terminal; in a pipe it is plain text of a fixed width."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(title=title or None, box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell.split(":")[0], "")) for cell in row))
    console.print(table)


_STYLES = {"yes": "green", "Yes": "green", "full": "green", "ok": "green", "limited": "yellow", "Limited": "yellow"}
_STYLES |= {"no": "red", "No": "dim", "broken": "bold red"}


class Messages(logging.Handler):
    """AlignTune's own messages, as plain lines on standard error; an error is told by the command that it ends."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            return
        if record.levelno >= logging.WARNING:
            click.secho("warning: ", fg="yellow", bold=True, err=True, nl=False)
        click.echo(in_a_line(record.getMessage().strip()), err=True)  # it may quote data


def show_messages(level: int = logging.INFO) -> None:
    """Print what AlignTune's logger says from this level on, and nobody else's handlers for it."""
    logger = logging.getLogger("aligntune")
    if level < logging.WARNING:
        logger.setLevel(level)
    hide_messages()
    handler = Messages()
    handler.setLevel(level)
    logger.addHandler(handler)


def hide_messages() -> None:
    """Print no messages: errors are told all the same."""
    logger = logging.getLogger("aligntune")
    for handler in [h for h in logger.handlers if isinstance(h, Messages)]:
        logger.removeHandler(handler)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
strict_option = click.option("--strict", is_flag=True, help="Exit 3 if something that is reported is broken.")
