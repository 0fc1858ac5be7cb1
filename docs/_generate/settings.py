"""The settings: the reference page, the table of other names, and the module of typed keywords."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from _generate.markdown import code, table
from _generate.markdown import page as make_page
from aligntune_core.config import (
    CONFIGS,
    DpoConfig,
    GrpoConfig,
    PpoConfig,
    RewardModelConfig,
    RolloutConfig,
    SftConfig,
    TrainingConfig,
)
from aligntune_core.config.aliases import ALIASES
from aligntune_core.config.describe import Setting, describe
from aligntune_core.config.names import OPTIMIZERS, PREFERENCE_LOSSES, SCHEDULERS, TRACKERS
from aligntune_core.values import MODEL_TYPES, TASKS

CHOICES = {
    "loss_type": PREFERENCE_LOSSES,
    "lr_scheduler": SCHEDULERS,
    "model_type": MODEL_TYPES,
    "optimizer": OPTIMIZERS,
    "report_to": TRACKERS,
    "task_type": TASKS,
}
_LIMITS = {
    ("ge", "minimum"): "at least {:g}",
    ("gt", "exclusiveMinimum"): "more than {:g}",
    ("le", "maximum"): "at most {:g}",
    ("lt", "exclusiveMaximum"): "less than {:g}",
}
"""By pydantic's own word and by JSON schema's: which of them the schema has depends on the kind of field."""

LARGEST = 2**31 - 1
"""Limits from here on only keep a number in the range of the libraries' integers."""


def _branches(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The alternatives of a field's JSON schema."""
    yield schema
    for branch in schema.get("anyOf", ()):
        yield from _branches(branch)


def _limits(schema: Mapping[str, Any]) -> str:
    found = []
    for keys, text in _LIMITS.items():
        values = [branch[key] for branch in _branches(schema) for key in keys if key in branch]
        found += [text.format(value) for value in values[:1] if abs(value) < LARGEST]
    return " and ".join(found)


def _choices(name: str, schema: Mapping[str, Any]) -> tuple[str, ...]:
    enums = [value for branch in _branches(schema) for value in branch.get("enum", ()) if isinstance(value, str)]
    return CHOICES.get(name) or (tuple(enums) if len(enums) > 1 else ())


Found = Mapping[str, Setting]
"""One setting, by the algorithms that have it."""


def _by_name() -> dict[str, dict[str, Setting]]:
    """Every setting once, in the order of the groups, with what each algorithm says of it."""
    found: dict[str, dict[str, Setting]] = {}
    for algorithm, cls in CONFIGS.items():
        for setting in describe(cls):
            found.setdefault(setting.name, {})[algorithm] = setting
    order = list(dict.fromkeys(next(iter(s.values())).group for s in found.values() if len(s) == len(CONFIGS)))
    order = [*order[:-1], *(g for s in found.values() if (g := next(iter(s.values())).group) not in order), order[-1]]
    return dict(sorted(found.items(), key=lambda pair: order.index(next(iter(pair[1].values())).group)))


def _defaults(found: Found) -> list[str]:
    """A line for each default that there is, with the algorithms that have it."""
    lines: dict[tuple[str, str], list[str]] = {}
    for algorithm, setting in found.items():
        if setting.default or setting.source != "ours":
            lines.setdefault((setting.default, setting.source), []).append(algorithm)
    whole = len(lines) == 1
    return [
        f"- Default{'' if whole else ' for ' + ', '.join(map(code, algorithms))}: "
        f"{code(default) if default else 'unset'} (source: {source})"
        for (default, source), algorithms in lines.items()
    ]


def _section(name: str, found: Found) -> str:
    first = next(iter(found.values()))
    schema = CONFIGS[next(iter(found))].model_json_schema()["properties"][name]
    limits = f", {text}" if (text := _limits(schema)) else ""
    lines = [f"- Type: {first.type}{limits}; in Python {code(first.annotation)}"]
    if len(found) < len(CONFIGS):
        lines.append(f"- Only for {', '.join(map(code, found))}")
    if choices := _choices(name, schema):
        lines.append(f"- One of: {', '.join(map(code, choices))}")
    lines += _defaults(found)
    if others := ALIASES.get(name):
        lines.append(f"- Other names: {', '.join(map(code, others))}")
    texts = list(dict.fromkeys(setting.description for setting in found.values()))
    text = texts[0]
    for other in texts[1:]:
        having = [a for a, setting in found.items() if setting.description == other]
        text += f"\n\nFor {', '.join(map(code, having))}: {other}"
    return f"### {code(name)}\n\n{text}\n\n" + "\n".join(lines)


def page() -> str:
    """The reference page."""
    intro = (
        "Every setting, by group. The name is the Python keyword, the key in a file and, with dashes, the flag of "
        "`aligntune train`. How they are combined and checked is in "
        "[Configuration](../user-guide/configuration.md)."
    )
    scope = (
        "A setting is of every algorithm where it does not say otherwise. A default whose source is *ours* is our own "
        "choice. What each algorithm sets and pins is in [Algorithms](algorithms.md)."
    )
    sections = [
        part
        for group, names in groupby(_by_name().items(), key=lambda pair: next(iter(pair[1].values())).group)
        for part in (f"## {group}", *(_section(name, found) for name, found in names))
    ]
    return make_page("Settings", intro, scope, *sections)


def aliases() -> str:
    """The table of other names."""
    link = "../reference/configuration.md#"
    rows = [[f"[{code(name)}]({link}{name})", ", ".join(map(code, others))] for name, others in ALIASES.items()]
    return table(["setting", "other names"], rows) + "\n"


_HEAD = '''\
"""The settings as typed keywords, so that editors complete them. Made by docs/generate.py; changes here are lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict
'''


_TYPED: Sequence[tuple[str, str, type[TrainingConfig], str]] = (
    ("TrainingSettings", "TypedDict, total=False", TrainingConfig, "The settings of every algorithm."),
    ("SftSettings", "TrainingSettings, total=False", SftConfig, "The settings of SFT."),
    ("DpoSettings", "TrainingSettings, total=False", DpoConfig, "The settings of DPO."),
    ("RewardModelSettings", "TrainingSettings, total=False", RewardModelConfig, "The settings of reward models."),
    (
        "RolloutSettings",
        "TrainingSettings, total=False",
        RolloutConfig,
        "The settings of all that learns from rewards.",
    ),
    ("GrpoSettings", "RolloutSettings, total=False", GrpoConfig, "The settings of GRPO, GSPO, DAPO and Dr. GRPO."),
    ("PpoSettings", "RolloutSettings, total=False", PpoConfig, "The settings of PPO."),
)
"""Name, bases, whose settings, docstring. A class repeats nothing that its base has."""


def typed_module() -> str:
    """`aligntune_core/config/typed.py`: `TypedDict`s, so that editors complete the settings."""
    parts = [_HEAD]
    written: dict[str, set[str]] = {"TypedDict": set()}
    for title, bases, cls, text in _TYPED:
        known = written[bases.partition(",")[0]]
        own = [s for s in describe(cls) if s.name not in known]
        written[title] = known | {s.name for s in own}
        parts.append(f'\n\nclass {title}({bases}):\n    """{text}"""\n')
        parts += [f'\n    {s.name}: {s.annotation}\n    """{s.description}"""\n' for s in own]
    bases = "DpoSettings, RewardModelSettings, GrpoSettings, PpoSettings"
    parts.append(f"\n\nclass RlSettings({bases}, total=False):\n")
    parts.append('    """The settings of every algorithm but SFT; which of them an algorithm has is checked."""\n')
    return "".join(parts)
