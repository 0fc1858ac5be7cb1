"""`plugins`: what is installed, from which distribution, with which hooks, and what is broken or switched off."""

from __future__ import annotations

import sys
from typing import Any

import click

from aligntune_core.cli.output import json_option, print_json, print_table, strict_option
from aligntune_core.discovery import BACKENDS


@click.command()
@json_option
@strict_option
def plugins(as_json: bool, strict: bool) -> None:
    """The installed plugins, and what is wrong with those that do not load. Each is loaded in a child process."""
    from aligntune_core.plugins.probe import ask_child

    found = ask_child()
    if as_json:
        print_json({"plugins": found})
    elif not found:
        click.echo("no plugin is installed; pip install 'aligntune[trl]'")
    else:
        header = ["plugin", "kind", "status", "distribution", "version", "hooks, or what is wrong"]
        print_table("", header, [_row(plugin) for plugin in found])
    sys.exit(3 if strict and any(plugin["status"] == "broken" for plugin in found) else 0)


def _row(plugin: dict[str, Any]) -> list[str]:
    kind = "backend" if plugin["group"] == BACKENDS else "plugin"
    return [
        *(plugin["name"], kind, plugin["status"], plugin["distribution"], plugin["version"]),
        _detail(plugin),
    ]


def _detail(plugin: dict[str, Any]) -> str:
    error = plugin["error"]
    if error:
        return f"{error['phase']}: {error['type']}: {error['message']}"
    return plugin["reason"] or ", ".join(plugin["hooks"])
