"""`compare`: the same run on several backends."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from aligntune_core.cli.output import hide_messages, json_option, print_json, print_table, show_messages


@click.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--backends", required=True, metavar="NAME,NAME", help="The backends, in the order in which they run.")
@click.option("--steps", type=click.IntRange(min=2), default=20, show_default=True, help="Optimiser steps of each.")
@click.option("--output-dir", type=click.Path(path_type=Path), help="For the runs and the page; unset: under runs/.")
@json_option
def compare(config: Path, backends: str, steps: int, output_dir: Path | None, as_json: bool) -> None:
    """Train the same steps on several backends, one after the other, each in a process of its own.

    Prints loss, seconds a step, tokens a second, time to the first step and memory, and writes a page with charts.
    """
    from aligntune_core import compare as comparison
    from aligntune_core.errors import ConfigError

    names = [name.strip() for name in backends.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        remedy = "give names such as trl,unsloth"
        raise ConfigError("names no backend, or one twice", remedy, field="--backends", value=backends)
    folder = output_dir or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-compare"
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError("the folder is not empty", "choose another", field="--output-dir", value=str(folder))
    (hide_messages if as_json else show_messages)()
    comparison.check(config, names)
    found = []
    for name in names:
        click.echo(f"{name}: {steps} steps …", err=True)
        found.append(comparison.measure(config, name, steps, folder / name))
    told = comparison.summary(config, steps, found)
    try:
        comparison.write(folder, told, found)
        page = str(folder / comparison.PAGE)
    except ImportError as error:
        page = f"none: {error.name} is not installed; pip install 'aligntune[report]'"
    if as_json:
        print_json(told)
    else:
        print_table("", ["backend", *comparison.COLUMNS], [[one.backend, *comparison.cells(one)] for one in found])
        click.echo(f"page: {page}")
    for one in found:
        if one.error:
            click.echo(f"{one.backend}: {one.error}", err=True)
    sys.exit(next((one.exit_code for one in found if one.error), 0))
