"""The algorithms: formula, source, what each pins, and the defaults that are its own."""

from __future__ import annotations

from _generate.markdown import code, fence, table
from _generate.markdown import page as make_page
from aligntune_core.algorithms import ALGORITHMS, Algorithm
from aligntune_core.config import CONFIGS, TrainingConfig
from aligntune_core.config.describe import describe

ROWS = {
    "answers": "rows with an answer",
    "preferences": "rows with a preference",
    "prompts": "rows with a prompt, and a reward",
}


def _own(name: str) -> list[list[str]]:
    """Its settings that differ from what all share, in default or in being there at all."""
    shared = {s.name: s for s in describe(TrainingConfig)}
    rows = []
    for setting in describe(CONFIGS[name]):
        other = shared.get(setting.name)
        if other is None or (setting.default, setting.source) != (other.default, other.source):
            link = f"[{code(setting.name)}](configuration.md#{setting.name})"
            rows.append([link, code(setting.default) if setting.default else "unset", setting.source])
    return rows


def _section(known: Algorithm) -> str:
    cls = CONFIGS[known.name]
    facts = [f"Learns from {ROWS[cls.rows]}.", f"Source: {known.paper}."]
    if known.difference:
        facts.append(f"Difference from GRPO: {known.difference}")
    if cls.pinned:
        facts.append("Pinned: " + ", ".join(code(f"{name}: {value}") for name, value in cls.pinned.items()) + ".")
    return "\n\n".join(
        [
            f"## {known.title}",
            f"{code(known.name)}: {known.summary}",
            fence(known.formula, "text"),
            *facts,
            table(["setting", "default", "source"], _own(known.name)),
        ]
    )


def page() -> str:
    """The page of all algorithms."""
    intro = (
        "What each algorithm minimises, what it fixes and what it sets differently from the others. In the terminal, "
        "`aligntune explain ALGORITHM` says the same. The loss is over the tokens y_t of an answer y to a prompt x."
    )
    return make_page("Algorithms", intro, *(_section(ALGORITHMS[name]) for name in CONFIGS))
