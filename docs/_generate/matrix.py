"""What works today, from what the backends of this repository say."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from pathlib import Path

from _generate.markdown import code, table
from _generate.markdown import page as make_page
from aligntune_core.algorithms import ALGORITHMS
from aligntune_core.matrix import SupportMatrix
from aligntune_core.ours import EXTRAS
from aligntune_core.testing.entry_points import fake_entry, make_registry
from aligntune_core.values import Support

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
TITLES = {"trl": "TRL", "unsloth": "Unsloth"}
AXES = {"algorithm": "Algorithm", "model_type": "Model type (SFT)", "task": "Task (SFT)"}
_WORDS = {"full": "Yes", "limited": "Limited", "no": "No"}


@cache
def _matrix() -> SupportMatrix:
    """Those of this repository, installed or not: another one that happens to be installed here changes no page."""
    sys.path.extend(str(PLUGINS / f"aligntune_{name}" / "src") for name in EXTRAS)
    found = {name: import_module(f"aligntune_{name}.plugin") for name in EXTRAS}
    registry = make_registry(*(fake_entry(name, plugin) for name, plugin in found.items()))
    return SupportMatrix({backend.name: backend.algorithms for backend in registry}, {})


def _word(support: Support) -> str:
    return f"{_WORDS[support.level]}: {support.note}" if support.level == "limited" else _WORDS[support.level]


def today(axis: str) -> str:
    """One table: a row takes its best cell over the other axes."""
    found = _matrix()
    names = [name for name, _ in found.projection(axis)[1]]

    def support(backend: str, name: str) -> Support:
        return found.support(backend, name) if axis == "algorithm" else found.support(backend, "sft", **{axis: name})

    rows = [
        [ALGORITHMS[name].title if name in ALGORITHMS else code(name)] + [_word(support(b, name)) for b in EXTRAS]
        for name in names
    ]
    return table([AXES[axis], *(TITLES.get(name, name) for name in EXTRAS)], rows) + "\n"


def page() -> str:
    """The page of what works today."""
    intro = (
        "What the backends of this repository say of themselves; *Limited* comes with what is limited. Whether they "
        "can run on a machine is another question, which `aligntune list-backends` answers there."
    )
    live = "For what is installed on your machine, other people's backends too:\n\n```bash\naligntune matrix\n```"
    tables = [f"## {title}\n\n{today(axis)}" for axis, title in AXES.items()]
    return make_page("What works today", intro, live, *tables)
