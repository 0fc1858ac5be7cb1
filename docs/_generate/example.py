"""What the example backend claims, and the algorithm that it brings, as a reader of the docs sees any backend's."""

from __future__ import annotations

import sys
from functools import cache

from _generate.markdown import code, table
from aligntune_core.config import SftConfig
from aligntune_core.config.describe import describe
from aligntune_core.plugins import Backend, load_registry

NAME = "torch"


@cache
def _backend() -> Backend:
    registry = load_registry(environ={"ALIGNTUNE_PLUGINS": NAME})
    if NAME not in registry:
        sys.exit(f"the example backend is not installed: pip install -e examples/aligntune_{NAME}")
    return registry.backends[NAME]


def claims() -> str:
    """Its cells, a row for each task."""
    rows = [
        [claim.about.title if claim.about else name.upper(), code(task), code(model_type), support.level]
        for name, claim in _backend().algorithms.items()
        for (task, model_type), support in claim.cells.items()
    ]
    return table(["Algorithm", "Task", "Model type", "Level"], rows) + "\n"


def algorithm() -> str:
    """The algorithm that core does not know: what it is, and its own settings."""
    parts = []
    for name, claim in _backend().algorithms.items():
        if claim.about is None or claim.config is None:
            continue
        own = [s for s in describe(claim.config) if s.name not in SftConfig.model_fields]
        rows = [[code(s.name), s.description, code(s.default), s.source] for s in own]
        facts = [f"**{claim.about.title}** ({code(name)}). {claim.about.summary}", f"Source: {claim.about.paper}."]
        if claim.about.formula:
            facts.append(code(claim.about.formula))
        parts += ["\n\n".join(facts), table(["setting", "meaning", "default", "source"], rows)]
    return "\n\n".join(parts) + "\n"
