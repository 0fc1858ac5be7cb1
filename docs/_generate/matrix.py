"""What works today, from what the backends of this repository say."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from _generate.markdown import code, table
from _generate.markdown import page as make_page
from aligntune_core.algorithms import ALGORITHMS
from aligntune_core.matrix import SupportMatrix
from aligntune_core.ours import EXTRAS
from aligntune_core.plugins import load_registry
from aligntune_core.values import Support

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
TITLES = {"trl": "TRL", "unsloth": "Unsloth"}
AXES = {"algorithm": "Algorithm", "model_type": "Model type (SFT)", "task": "Task (SFT)"}
_WORDS = {"full": "Yes", "limited": "Limited", "no": "No"}


@cache
def _matrix() -> SupportMatrix:
    """Only our own backends count: another one that happens to be installed here changes no page."""
    ours = [name for name in EXTRAS if (PLUGINS / f"aligntune_{name}").is_dir()]
    registry = load_registry(environ={"ALIGNTUNE_PLUGINS": ",".join(ours)})
    for name in ours:
        if name not in registry:
            sys.exit(f"the backend '{name}' is not installed: pip install -e plugins/aligntune_{name}")
    return SupportMatrix({backend.name: backend.algorithms for backend in registry}, {})


def _word(backend: str, support: Support) -> str:
    if backend not in _matrix().supports:
        return "Not yet"
    return f"{_WORDS[support.level]}: {support.note}" if support.level == "limited" else _WORDS[support.level]


def today(axis: str) -> str:
    """One table: a row takes its best cell over the other axes."""
    found = _matrix()
    names = [name for name, _ in found.projection(axis)[1]]

    def support(backend: str, name: str) -> Support:
        return found.support(backend, name) if axis == "algorithm" else found.support(backend, "sft", **{axis: name})

    rows = [
        [ALGORITHMS[name].title if name in ALGORITHMS else code(name)] + [_word(b, support(b, name)) for b in EXTRAS]
        for name in names
    ]
    return table([AXES[axis], *(TITLES.get(name, name) for name in EXTRAS)], rows) + "\n"


def page() -> str:
    """The page of what works today."""
    intro = (
        "What the backends in this release say of themselves. *Not yet* means that the backend is not in this release; "
        "*Limited* comes with what is limited. What each is meant to train in the end is in the "
        "[support matrix](../compatibility/support-matrix.md)."
    )
    live = "For what is installed on your machine, other people's backends too:\n\n```bash\naligntune matrix\n```"
    tables = [f"## {title}\n\n{today(axis)}" for axis, title in AXES.items()]
    return make_page("What works today", intro, live, *tables)
