"""`matrix --why BACKEND/ALGORITHM`: how `auto` decides for an algorithm, and what became of one backend."""

from __future__ import annotations

from typing import Any

import click

from aligntune_core.algorithms import canonical
from aligntune_core.cli.output import print_json, print_table
from aligntune_core.environment import detect
from aligntune_core.errors import NoBackendError
from aligntune_core.installed import build_matrix, choose, default_registry, get_backend_status
from aligntune_core.matrix import SupportMatrix
from aligntune_core.selector import AUTO, backend_name, ranking


def _candidate(name: str, algorithm: str, matrix: SupportMatrix, status: dict[str, Any]) -> dict[str, Any]:
    """One backend as `auto` sees it; `rank` is None where it does not train the algorithm."""
    ranked = ranking(matrix, algorithm)
    support = matrix.support(name, algorithm)
    claim = matrix.supports.get(name, {}).get(algorithm)
    return {
        "backend": name,
        "rank": ranked.index(name) + 1 if name in ranked else None,
        "level": support.level if name in matrix.supports else "",
        "note": support.note if support.level == "limited" else "",
        "preference": claim.preference if claim else None,
        "available": status["available"],
        "reason": status["reason"],
        "remedy": status["remedy"],
    }


def reasons(asked: str) -> dict[str, Any]:
    """What `--why` prints as JSON: the algorithm, who is chosen, and every candidate in the order of `auto`.

    Raises:
        click.UsageError: it is not BACKEND/ALGORITHM.
        UnknownBackendError, UnknownAlgorithmError: nobody has the name.
    """
    backend, slash, name = asked.partition("/")
    if not slash:
        raise click.UsageError(f"--why is BACKEND/ALGORITHM, not '{asked[:60]}'; such as --why trl/sft or auto/sft")
    registry, environment = default_registry(), detect()
    algorithm = canonical(name, registry.extra_algorithms)
    wanted = backend_name(backend, registry.known, registry.disabled)
    matrix = build_matrix(registry, environment)
    try:
        chosen = choose(registry, environment, algorithm, AUTO)[1].backend
    except NoBackendError:
        chosen = None
    found = [_candidate(b, algorithm, matrix, status) for b, status in get_backend_status().items()]
    found.sort(key=lambda c: (c["rank"] is None, c["rank"], c["backend"]))
    cells = [c for c in matrix.cells if (c["backend"], c["algorithm"]) == (wanted, algorithm)]
    shown = ("task", "model_type", "level", "note")
    return {
        "backend": wanted,
        "algorithm": algorithm,
        "chosen": chosen,
        "candidates": found,
        "cells": [{name: cell[name] for name in shown} for cell in cells],
    }


def _verdict(facts: dict[str, Any]) -> str:
    """The answer in one sentence."""
    backend, algorithm, chosen = facts["backend"], facts["algorithm"], facts["chosen"]
    taken = f"auto takes {chosen}" if chosen else "auto finds no backend"
    if backend in (AUTO, chosen):
        return f"For {algorithm}, {taken}."
    mine = next(c for c in facts["candidates"] if c["backend"] == backend)
    if mine["rank"] is None and mine["level"]:
        return f"For {algorithm}, {taken}: {backend} does not train it."
    if not mine["available"]:
        return f"For {algorithm}, {taken}: {backend} cannot run here ({mine['reason']}; {mine['remedy']})."
    return f"For {algorithm}, {taken}: it comes before {backend}."


def tell_why(asked: str, *, as_json: bool) -> None:
    """Print why `auto` takes a backend for an algorithm, or does not."""
    facts = reasons(asked)
    if as_json:
        print_json(facts)
        return
    click.echo(_verdict(facts))
    click.echo("auto tries those that train it: full before limited, then the higher preference, then by name.")
    rows = [
        [
            str(c["rank"] or "-"),
            c["backend"],
            c["level"] + (f": {c['note']}" if c["note"] else ""),
            "" if c["preference"] is None else str(c["preference"]),
            "yes" if c["available"] else f"no: {c['reason']}; {c['remedy']}",
        ]
        for c in facts["candidates"]
    ]
    print_table("", ["order", "backend", "trains it", "preference", "can run here"], rows)
    if facts["cells"]:
        cells = [
            [c["task"], c["model_type"], c["level"] + (f": {c['note']}" if c["note"] else "")] for c in facts["cells"]
        ]
        print_table("", ["task", "model type", facts["backend"]], cells)
