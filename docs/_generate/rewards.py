"""The built-in rewards: the table of the user guide, and their page of reference."""

from __future__ import annotations

import inspect
from typing import Any

from _generate.markdown import code, docstring, table
from _generate.markdown import page as make_page
from aligntune_core.rewards import Reward
from aligntune_core.rewards.builtin import BUILT_IN

EXTRAS = {"math": "math", "json_schema": "json"}
"""The extra that brings what a reward needs."""


def _value(value: Any) -> str:
    """A default as a settings file writes it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _options(reward: Reward, needed: str = "{}") -> list[str]:
    """Each option as it stands in a settings file, with its default where it has one."""
    parameters = inspect.signature(reward.make).parameters.values()
    return [needed.format(p.name) if p.default is p.empty else f"{p.name}: {_value(p.default)}" for p in parameters]


def part() -> str:
    """The table of the user guide."""
    rows = [
        [
            f"[{code(reward.name)}](../reference/rewards.md#{reward.name})",
            reward.summary,
            ", ".join(map(code, _options(reward))),
        ]
        for reward in BUILT_IN
    ]
    return table(["name", "score", "options"], rows) + "\n"


def _section(reward: Reward) -> str:
    written = ", ".join([f"name: {reward.name}", *_options(reward, "{}: …")])
    lines = [f"## {code(reward.name)}", code(f"{{{written}}}")]
    lines.append(docstring(reward.make.__doc__).replace("\n\nArgs:\n\n", "\n\n"))
    if extra := EXTRAS.get(reward.name):
        lines.append(f"It needs the extra {code(extra)}.")
    return "\n\n".join(lines)


def page() -> str:
    """The page of all built-in rewards."""
    intro = (
        "What each built-in reward gives, and its options. How rewards are named, combined and written is in "
        "[Rewards](../user-guide/rewards.md). Under each name stands what a settings file may say, with all options at "
        "their defaults; one that is shown with … must be given."
    )
    return make_page("Built-in rewards", intro, *map(_section, BUILT_IN))
