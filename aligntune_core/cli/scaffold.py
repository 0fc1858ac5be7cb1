"""`plugin new NAME`: a backend of your own, complete and installable, to begin with."""

from __future__ import annotations

import re
import shutil
import tempfile
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

import click

from aligntune_core.algorithms import fold
from aligntune_core.discovery import BACKENDS, is_plain, names
from aligntune_core.errors import LONGEST_NAME, ConfigError
from aligntune_core.ours import EXTRAS

_PACKAGE = "package"
"""The folder of the templates that becomes the package."""


def check_new_name(name: str) -> None:
    """Refuse a name that a backend cannot have, or that is taken.

    Raises:
        ConfigError: with a name that would do.
    """
    if not is_plain(name) or fold(name) == "auto":
        better = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")[:LONGEST_NAME]
        remedy = f"such as {better}" if better not in ("", "auto") else "such as my_backend"
        raise ConfigError("a backend's name is lower-case letters, digits and _", remedy, field="NAME", value=name)
    taken = next((other for other in (*EXTRAS, *names(BACKENDS)) if fold(other) == fold(name)), None)
    if taken is not None:
        problem = "this is a backend of AlignTune's own" if taken in EXTRAS else f"the backend '{taken}' is installed"
        raise ConfigError(problem, "choose another name", field="NAME", value=name)


def _written(source: Traversable, folder: Path, name: str) -> None:
    """Fill in the templates of a folder, and those below it."""
    words = {"name": name, "distribution": name.replace("_", "-"), "title": f"The backend {name} of AlignTune"}
    folder.mkdir(parents=True, exist_ok=True)
    for item in source.iterdir():
        if item.is_dir():
            _written(item, folder / (f"src/aligntune_{name}" if item.name == _PACKAGE else item.name), name)
        else:
            text = Template(item.read_text("utf-8")).substitute(words)
            (folder / item.name.removesuffix(".tmpl")).write_text(text, "utf-8")


def write_backend(name: str, folder: Path) -> None:
    """Write the package of a new backend to a folder; it is there as a whole or not at all.

    Raises:
        ConfigError: the name cannot be taken, or something is there.
    """
    check_new_name(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("something is there already", "give another --path", field="path", value=str(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as staging:
        made = Path(staging) / folder.name
        _written(files("aligntune_core") / "templates" / "backend", made, name)
        if folder.exists():
            folder.rmdir()
        shutil.move(made, folder)


@click.group()
def plugin() -> None:
    """Write a backend of your own."""


@plugin.command()
@click.argument("name")
@click.option("--path", type=click.Path(path_type=Path), help="The folder to write; unset: aligntune-NAME here.")
def new(name: str, path: Path | None) -> None:
    """Write the package of a new backend called NAME: hooks, a trainer that trains, tests."""
    folder = path or Path(f"aligntune-{name.replace('_', '-')}")
    write_backend(name, folder)
    click.echo(f"{folder} is written. Next:\n")
    click.echo(f"  pip install -e '{folder}[test]'")
    click.echo(f"  pytest {folder}")
    click.echo(f"  aligntune train --backend {name} --model-name … --dataset-name …")
