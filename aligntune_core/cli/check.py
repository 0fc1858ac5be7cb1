"""`validate`, `explain` and `completion`: what can be said without a training library."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from aligntune_core.cli.output import json_option, print_json, print_table


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@json_option
def validate(config: Path, as_json: bool) -> None:
    """Check CONFIG: every setting, the backend, the output folder, the model's and the data's files."""
    from aligntune_core.checks import check_files_of
    from aligntune_core.errors import AlignTuneError

    problems, settings, code = [], None, 0
    try:
        settings, errors = check_files_of(config)
        problems = [p for error in errors for p in error.problems]
        code = max((error.exit_code for error in errors), default=0)
    except AlignTuneError as error:
        problems, code = list(error.problems), error.exit_code
    if as_json:
        print_json({"ok": not problems, "errors": [p.as_dict() for p in problems], "config": settings})
    elif problems:
        for problem in problems:
            click.secho("error: ", fg="red", bold=True, err=True, nl=False)
            click.echo(str(problem), err=True)
    else:
        click.echo(f"{config}: ok")
    sys.exit(code)


@click.command()
@click.argument("algorithm")
@json_option
def explain(algorithm: str, as_json: bool) -> None:
    """Show ALGORITHM: formula, paper, difference from GRPO, what it pins, and every default with its source."""
    from aligntune_core.algorithms import canonical
    from aligntune_core.checks import config_class
    from aligntune_core.config import CONFIGS, CORE_SETTINGS
    from aligntune_core.config.describe import describe
    from aligntune_core.installed import default_registry, support_matrix

    registry = default_registry()
    name = canonical(algorithm, registry.extra_algorithms)
    matrix = support_matrix()
    known, trainers = matrix.about(name), matrix.trains(name)
    settings, cls = [], CONFIGS.get(name)
    if trainers:
        first = registry.backends[trainers[0]]
        honoured, cls = CORE_SETTINGS | first.algorithms[name].settings, config_class(name, first)
        settings = [s for s in describe(cls) if s.name in honoured]
    facts: dict[str, Any] = {
        "algorithm": name,
        "title": known.title,
        "summary": known.summary,
        "formula": known.formula,
        "paper": known.paper,
        "difference": known.difference,
        "pinned": dict(cls.pinned) if cls else {},
        "backends": trainers,
        "settings": [{"name": s.name, "default": s.default, "source": s.source} for s in settings],
    }
    if as_json:
        print_json(facts)
        return
    click.secho(f"{facts['title']}  ({name})", bold=True)
    pinned = ", ".join(f"{field}: {value}" for field, value in facts["pinned"].items())
    backends = ", ".join(trainers) or "none that is installed trains it"
    lines = {
        "summary": facts["summary"], "formula": facts["formula"], "paper": facts["paper"],
        "not GRPO": facts["difference"], "pinned": pinned, "backends": backends,
    }  # fmt: skip
    for key, text in lines.items():
        if text:
            click.echo(f"{key + ':':9} " + text.rstrip().replace("\n", "\n" + " " * 10))
    if settings:
        rows = [[s.name, s.default, s.source] for s in settings if s.default]
        print_table("", ["setting", "default", "source of the default"], rows)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL; for bash: eval "$(aligntune completion bash)"."""
    from click.shell_completion import get_completion_class

    from aligntune_core.cli.main import app

    cls = get_completion_class(shell)
    if cls is not None:
        click.echo(cls(app, {}, "aligntune", "_ALIGNTUNE_COMPLETE").source())
