"""`list-backends` and `matrix`: what is installed, whether it can run here, and what it trains."""

from __future__ import annotations

import sys
from typing import Any

import click

from aligntune_core.cli.output import json_option, print_json, print_table, strict_option
from aligntune_core.installed import build_matrix, default_registry, get_backend_status
from aligntune_core.matrix import SupportMatrix

TABLES = (("algorithm", "Algorithm"), ("model_type", "Model type (SFT)"), ("task", "Task (SFT)"))
_WORDS = {"full": "Yes", "limited": "Limited", "no": "No"}


@click.command("list-backends")
@json_option
@strict_option
def list_backends(as_json: bool, strict: bool) -> None:
    """Which backends are installed and can run here."""
    status = get_backend_status()
    if as_json:
        print_json({"backends": status})
    else:
        rows = [
            [name, "yes" if s["available"] else "no", s["version"] or "", _because(s)] for name, s in status.items()
        ]
        print_table("", ["backend", "available", "version", "why not, and what to do"], rows)
    broken = any(s["version"] is not None and not s["available"] for s in status.values())
    sys.exit(3 if strict and broken else 0)


def _because(status: dict[str, Any]) -> str:
    return "" if status["available"] else f"{status['reason']}: {status['remedy']}"


@click.command()
@json_option
@strict_option
@click.option(
    "--format", "form", type=click.Choice(["table", "markdown"]), default="table", help="How tables are printed."
)
@click.option("--why", metavar="BACKEND/ALGORITHM", help="Why auto takes a backend for an algorithm, or does not.")
def matrix(as_json: bool, strict: bool, form: str, why: str | None) -> None:
    """What each installed backend trains, by algorithm, model type and task."""
    from aligntune_core.environment import detect

    if why is not None:
        from aligntune_core.cli.why import tell_why

        tell_why(why, as_json=as_json)
        return
    registry = default_registry()
    found = build_matrix(registry, detect())
    if as_json:
        print_json({"cells": found.cells})
    elif form == "markdown":
        click.echo(markdown(found), nl=False)
    elif not found.supports:
        click.echo("no backend is installed; see 'aligntune list-backends'")
    else:
        for axis, title in TABLES:
            header, rows = table(found, axis)
            print_table("", [title, *header], rows)
    unavailable = [name for name, verdict in found.availability.items() if not verdict.ok]
    sys.exit(3 if strict and (registry.failures or unavailable) else 0)


def table(found: SupportMatrix, axis: str) -> tuple[list[str], list[list[str]]]:
    """One table as text: the backends, and a row for each name."""
    backends, rows = found.projection(axis)
    titles = {name: found.about(name).title for name, _ in rows} if axis == "algorithm" else {}
    return backends, [
        [titles.get(name, name), *(f"{_WORDS[s.level]}{': ' + s.note if s.level == 'limited' else ''}" for s in cells)]
        for name, cells in rows
    ]


def markdown(found: SupportMatrix) -> str:
    """The three tables in Markdown, as the docs hold them."""
    parts = []
    for axis, title in TABLES:
        header, rows = table(found, axis)
        lines = [[title, *header], ["---"] * (len(header) + 1), *rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
    return "\n".join(parts)
