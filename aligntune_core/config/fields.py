"""The types that settings are made of. Each accepts what a flag or a file can say: "1e-4", "true", "a,b"."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, StrictStr
from pydantic_core import PydanticCustomError


def problem(message: str, remedy: str = "") -> PydanticCustomError:
    """An error whose text is shown as it stands, with its own remedy if it has one."""
    return PydanticCustomError("aligntune", message, {"remedy": remedy})  # the text is no template


def _not_bool(value: object) -> object:
    if isinstance(value, bool):
        raise problem("must be a number, not true or false")
    return value


def _listed(value: object) -> object:
    """A comma-separated string or a list; `none` and an empty string are the empty list."""
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
        return tuple(part for part in parts if part and part.lower() != "none")
    return tuple(value) if isinstance(value, list) else value


def _mapped(value: object) -> object:
    """A mapping, or `ours=theirs,ours=theirs` as a flag says it."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if any(not sep or not left.strip() or not right.strip() for left, sep, right in pairs):
            raise problem("must be a mapping, or ours=theirs,ours=theirs")
        return {left.strip(): right.strip() for left, _, right in pairs}
    return value


def _options(value: object) -> object:
    """A mapping, or a YAML or JSON mapping as text."""
    if isinstance(value, str):
        from aligntune_core.config.yaml_file import read_value

        try:
            value = read_value(value)
        except ValueError as error:
            raise problem("must be a mapping, such as '{name: value}'") from error
    if not isinstance(value, Mapping):
        raise problem("must be a mapping, such as '{name: value}'")
    return dict(value)


def _data_names(value: object) -> object:
    """One name as text; several as a list, or separated by commas where no file is called so."""
    if isinstance(value, str) and "," in value and not _exists(value):
        value = tuple(part.strip() for part in value.split(",") if part.strip()) or value
    if isinstance(value, list | tuple):
        if not value:
            raise problem("must not be empty")
        if wrong := [part for part in value if not isinstance(part, str)]:
            raise problem(f"each must be text, and {wrong[0]!r:.40} is none")
        alone = len(value) == 1 and "," not in value[0]
        return value[0] if alone else tuple(value)
    return value


def _exists(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # no path at all, or one that may not be looked at
        return False


def _listed_numbers(value: object) -> object:
    return (value,) if isinstance(value, int | float) else _listed(value)


def _functions(value: object) -> object:
    """Rewards: names separated by commas, a YAML or JSON list as text, one function or mapping, or a list of these."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        from aligntune_core.config.yaml_file import read_value

        try:
            value = read_value(value)
        except ValueError as error:
            raise problem("must be names, or a list such as '[{name: format, pattern: …}]'") from error
    if callable(value) or isinstance(value, Mapping):
        value = (value,)
    listed = _listed(value)
    for each in listed if isinstance(listed, tuple) else ():
        named = isinstance(each, Mapping) and isinstance(each.get("name"), str)
        if not (callable(each) or isinstance(each, str) or named):
            raise problem("must be names, functions, or mappings with a name")
        if isinstance(each, str) and each.startswith(PYTHON):
            text = f"{each.removeprefix(PYTHON)} was given as a Python object, which only your script has"
            raise problem(text, "go on from that script, with resume=True")
    return listed


PYTHON = "python:"
"""Before the name of a reward that only the script which gave it can find."""


def _function_name(function: object) -> object:
    """A reward as run.json keeps it: what was written, or where the function is."""
    if isinstance(function, str | Mapping):
        return function
    home, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    if not name or "<" in name or home == "__main__":
        kind = type(function)
        return f"{PYTHON}{home or kind.__module__}:{name or kind.__qualname__}"
    return f"{home}:{name}"


def _unset(value: object) -> object:
    """-1 and the word none are how other tools say: not set."""
    return None if value in (-1, "-1", "none", "None") and not isinstance(value, bool) else value


def _one_line(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise problem("must not be empty")
    return value


def _fits_a_path(value: str) -> str:
    if len(value) > 4000 or any(len(part.encode()) > 255 for part in value.split("/")):
        raise problem("is too long for a path or a name")
    return value


Int = Annotated[int, BeforeValidator(_not_bool)]
Float = Annotated[float, BeforeValidator(_not_bool), Field(allow_inf_nan=False)]
PositiveInt = Annotated[Int, Field(ge=1, le=2**31 - 1)]
Count = Annotated[Int, Field(ge=0, le=2**31 - 1)]
PositiveFloat = Annotated[Float, Field(gt=0)]
NonNegative = Annotated[Float, Field(ge=0)]
Share = Annotated[Float, Field(gt=0, lt=1)]
Seed = Annotated[Int, Field(ge=0, le=2**32 - 1)]
Text = Annotated[StrictStr, AfterValidator(_one_line)]
PathText = Annotated[Text, AfterValidator(_fits_a_path)]
DataNames = Annotated[PathText | Annotated[tuple[PathText, ...], Field(min_length=1)], BeforeValidator(_data_names)]
Names = Annotated[tuple[StrictStr, ...], BeforeValidator(_listed)]
Mapped = Annotated[dict[StrictStr, StrictStr], BeforeValidator(_mapped)]
Options = Annotated[dict[StrictStr, Any], BeforeValidator(_options)]
Weights = Annotated[tuple[Float, ...], BeforeValidator(_listed_numbers)]
PositiveWeights = Annotated[tuple[PositiveFloat, ...], BeforeValidator(_listed_numbers)]
Functions = Annotated[
    tuple[Any, ...],
    BeforeValidator(_functions),
    PlainSerializer(lambda functions: [_function_name(f) for f in functions], when_used="json"),
]
OptionalSteps = Annotated[PositiveInt | None, BeforeValidator(_unset)]
