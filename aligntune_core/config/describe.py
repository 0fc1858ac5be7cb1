"""The settings as data: what the command line's flags, the docs and the typed keywords are made from."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from aligntune_core.config.settings import Group, TrainingConfig


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of one algorithm. `default` is its text form, empty where unset means: decided later."""

    name: str
    type: str
    annotation: str
    default: str
    description: str
    source: str
    group: str

    @property
    def metavar(self) -> str:
        words = {"a whole number": "N", "a number": "X", "text": "TEXT", "a list": "A,B", "a mapping": "A=B"}
        return words.get(self.type, self.type.upper())


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    tuple: "a list",
    dict: "a mapping",
}


def _bare(kind: Any) -> list[Any]:
    """The plain types in an annotation: without Annotated, None and union."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        return _bare(typing.get_args(kind)[0])
    if origin in (typing.Union, types.UnionType):
        return [t for part in typing.get_args(kind) for t in _bare(part)]
    if origin is Literal:
        return [type(value) for value in typing.get_args(kind)]
    return [] if kind is type(None) else [origin or kind]


def _annotation(kinds: list[Any], name: str) -> str:
    """The type as a keyword argument may be written."""
    spelt = {tuple: "str | Sequence[str]", dict: "Mapping[str, Any]"}
    if name == "reward_functions":
        return "str | Callable[..., Any] | Mapping[str, Any] | Sequence[Any] | None"
    if name == "reward_weights":
        return "float | str | Sequence[float] | None"
    if name in ("column_mapping",):
        spelt[dict] = "Mapping[str, str]"
    if name == "dataset_name":
        return "str | Sequence[str] | None"
    if name == "dataset_weights":
        return "float | str | Sequence[float] | None"
    if name in ("model_name", "eval_dataset_name", "output_dir", "chat_template"):
        return "str | None"
    parts = dict.fromkeys(part for kind in kinds for part in spelt.get(kind, kind.__name__).split(" | "))
    if "float" in parts:
        parts.pop("int", None)
    return " | ".join([*parts, "None"])


def default_text(cls: type[TrainingConfig], name: str) -> str:
    """A setting's default as text; empty where unset means: decided later."""
    if name == "learning_rate":
        full, lora, _ = cls.learning_rates
        return f"{full:g}, with LoRA {lora:g}"
    return _default(cls.model_fields[name].get_default())


def _default(value: Any) -> str:
    if value is None:
        return ""
    if value == () or value == {}:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def describe(cls: type[TrainingConfig]) -> list[Setting]:
    """The settings of an algorithm, group by group, in the order in which they are declared."""
    homes = [base for base in reversed(cls.__mro__) if issubclass(base, Group) and base is not Group]
    homes.sort(key=lambda base: vars(base).get("title") == "Run")  # the run folder's settings come last
    found: dict[str, Setting] = {}
    for home in homes:
        for name in home.__annotations__:
            field = cls.model_fields.get(name)
            if field is None:
                continue
            kinds = list(
                dict.fromkeys(
                    k for part in (field.annotation, *field.metadata) for k in _bare(part) if isinstance(k, type)
                )
            )
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            source = cls.learning_rates[2] if name == "learning_rate" else str(extra.get("source", ""))
            group = vars(home).get("title") or home.__name__.removesuffix("Config")
            found[name] = Setting(
                name=name,
                type=_WORDS.get(kinds[0], "text"),
                annotation=_annotation(kinds, name),
                default=default_text(cls, name),
                description=field.description or "",
                source=source,
                group=found[name].group if name in found else group,  # an algorithm's own default stays in its group
            )
    return list(found.values())
