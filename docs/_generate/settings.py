"""The settings: the reference page, the table of other names, and the module of typed keywords."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from _generate.markdown import code, table
from _generate.markdown import page as make_page
from aligntune_core.algorithms import ALGORITHMS
from aligntune_core.config.aliases import ALIASES
from aligntune_core.config.describe import Setting, describe
from aligntune_core.config.names import OPTIMIZERS, SCHEDULERS, TRACKERS
from aligntune_core.config import CONFIGS, TrainingConfig
from aligntune_core.values import MODEL_TYPES, TASKS

CHOICES = {
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


def _section(setting: Setting, schema: Mapping[str, Any]) -> str:
    limits = f", {text}" if (text := _limits(schema)) else ""
    lines = [f"- Type: {setting.type}{limits}; in Python {code(setting.annotation)}"]
    if choices := _choices(setting.name, schema):
        lines.append(f"- One of: {', '.join(map(code, choices))}")
    if setting.default:
        lines.append(f"- Default: {code(setting.default)} (source: {setting.source})")
    elif setting.source != "ours":
        lines.append(f"- Default: unset (source: {setting.source})")
    if others := ALIASES.get(setting.name):
        lines.append(f"- Other names: {', '.join(map(code, others))}")
    return f"### {code(setting.name)}\n\n{setting.description}\n\n" + "\n".join(lines)


def _algorithm(cls: type[TrainingConfig]) -> str:
    schema = cls.model_json_schema()["properties"]
    parts = []
    for group, settings in groupby(describe(cls), key=lambda setting: setting.group):
        parts += [f"## {group}", *(_section(setting, schema[setting.name]) for setting in settings)]
    return "\n\n".join(parts)


def page() -> str:
    """The reference page."""
    intro = (
        "Every setting, by group. The name is the Python keyword, the key in a file and, with dashes, the flag of "
        "`aligntune train`. How they are combined and checked is in "
        "[Configuration](../user-guide/configuration.md)."
    )
    titles = " and ".join(ALGORITHMS[name].title for name in CONFIGS)
    scope = f"So far there is one algorithm, {titles}. A default whose source is *ours* is our own choice."
    return make_page("Settings", intro, scope, *(_algorithm(cls) for cls in CONFIGS.values()))


def aliases() -> str:
    """The table of other names."""
    link = "../reference/configuration.md#"
    rows = [[f"[{code(name)}]({link}{name})", ", ".join(map(code, others))] for name, others in ALIASES.items()]
    return table(["setting", "other names"], rows) + "\n"


_HEAD = '''\
"""The settings as typed keywords, so that editors complete them. Made by docs/generate.py; changes here are lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict
'''


def typed_module() -> str:
    """`aligntune_core/config/typed.py`: a `TypedDict` for each algorithm."""
    parts = [_HEAD]
    for name, cls in CONFIGS.items():
        title = ALGORITHMS[name].title
        parts.append(f"\n\nclass {cls.__name__.removesuffix('Config')}Settings(TypedDict, total=False):\n")
        parts.append(f'    """The settings of {title}."""\n')
        parts += [f'\n    {s.name}: {s.annotation}\n    """{s.description}"""\n' for s in describe(cls)]
    return "".join(parts)
