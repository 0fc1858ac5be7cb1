"""Rewards that check what a model wrote in a child process: patterns may take for ever on it, and math evaluates it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aligntune_core.errors import ConfigError, first_line
from aligntune_core.rewards.apart import Apart
from aligntune_core.rewards.builtin.matching import check_column
from aligntune_core.rewards.find import FIELD
from aligntune_core.rewards.values import Function, text_of

SECONDS = 5.0
"""What a completion may take, as in math-verify; nearly all take milliseconds."""
LARGEST_SCHEMA = 1_000_000
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def _check_seconds(seconds: float) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 86_400:
        raise ValueError("seconds must be above 0 and below a day")


def _needs(package: str, reward: str, extra: str) -> None:
    """Refuse a reward whose package is not installed, without importing it."""
    if find_spec(package) is None:
        problem = f"needs the package {package.replace('_', '-')}, which is not installed"
        raise ConfigError(problem, f"pip install 'aligntune[{extra}]'", field=FIELD, value=reward)


def format_reward(*, pattern: str, full: bool = True, seconds: float = SECONDS) -> Function:
    """1 where the completion matches a regular expression, else 0.

    Args:
        pattern: in the syntax of Python's `re`; a dot matches line breaks too.
        full: the whole completion must match; false: some part of it.
        seconds: what a completion may take; one that needs more scores 0. Some patterns take time that is exponential
            in the length of the text.
    """
    _check_seconds(seconds)
    if not isinstance(pattern, str):
        raise ValueError("pattern must be a text")
    try:
        re.compile(pattern, re.DOTALL)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"pattern is no regular expression: {first_line(error)}") from error
    return _by_text(Apart("format", {"pattern": pattern, "full": bool(full)}, seconds))


def _by_text(apart: Apart) -> Function:
    def reward(completions: list[Any]) -> list[float | None]:
        return apart.scores([(text_of(completion), None) for completion in completions])

    return reward


def math(*, column: str = "answer", seconds: float = SECONDS) -> Function:
    r"""1 where the completion's answer equals the one in a column, as math-verify judges, else 0.

    What stands in `\boxed{…}` counts (several are taken together: two answers equal no single one), or else the last
    formula or number. Where the column holds nothing that can be read as mathematics, the reward does not apply.
    math-verify evaluates what it reads, so it runs in a child process without the environment's secrets, with a limit
    of memory, and without leave to write files. That is no sandbox.

    Args:
        column: the column with the right answer, in LaTeX or plain.
        seconds: what a completion may take; one that needs more scores 0.
    """
    check_column(column)
    _check_seconds(seconds)
    _needs("math_verify", "math", "math")
    apart = Apart("math", {}, seconds)

    def reward(completions: list[Any], **columns: Any) -> list[float | None]:
        asked = [(text_of(text), answer) for text, answer in zip(completions, columns[column], strict=True)]
        known = [index for index, (_, answer) in enumerate(asked) if answer is not None]
        found: list[float | None] = [None] * len(asked)
        for index, score in zip(known, apart.scores([(t, str(a)) for t, a in asked if a is not None]), strict=True):
            found[index] = score
        return found

    reward.needs_columns = (column,)  # type: ignore[attr-defined]
    return reward


def _references(value: Any) -> Iterator[str]:
    """Every reference in a schema."""
    if isinstance(value, Mapping):
        yield from (ref for key in ("$ref", "$dynamicRef") if isinstance(ref := value.get(key), str))
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _references(inner)


def _read_schema(schema: Any) -> Any:
    if not isinstance(schema, str):
        return schema
    path = Path(schema).expanduser()
    try:
        if path.stat().st_size > LARGEST_SCHEMA:
            raise ValueError(f"the schema {schema} is larger than {LARGEST_SCHEMA} bytes")
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ValueError(f"the schema {schema} cannot be read: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the schema {schema} is no JSON: {first_line(error)}") from error


def _check_schema(schema: Any) -> None:
    from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]
    from jsonschema.validators import validator_for  # type: ignore[import-untyped]
    from referencing import Registry, Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    try:
        validator_for(schema, default=validator_for({"$schema": DRAFT})).check_schema(schema)
        here = Registry().resolver_with_root(Resource.from_contents(schema, default_specification=DRAFT202012))
        for reference in _references(schema):
            if not reference.startswith("#"):
                raise ValueError(f"the schema refers to {reference}; it may refer to its own parts (#/…) only")
            here.lookup(reference)
    except (SchemaError, RecursionError) as error:
        raise ValueError(f"the schema is not valid: {first_line(error)}") from error
    except Unresolvable as error:
        raise ValueError(f"the schema refers to {first_line(error)}, which it does not have") from error


def json_schema(*, schema: Mapping[str, Any] | str, seconds: float = SECONDS) -> Function:
    """1 where the completion is a JSON value that a schema allows, else 0.

    The whole completion must be JSON, at most a million characters and 100 levels deep. `format` in a schema is a
    note, as the standard has it.

    Args:
        schema: a JSON Schema, or the path of a file with one; without `$schema`: draft 2020-12. It may refer to its own
            parts (`#/…`) only: nothing is fetched.
        seconds: what a completion may take; one that needs more scores 0.
    """
    _check_seconds(seconds)
    _needs("jsonschema", "json_schema", "json")
    loaded = _read_schema(schema)
    if not isinstance(loaded, Mapping | bool):
        raise ValueError("schema must be a mapping, or the path of a JSON file")
    _check_schema(loaded)
    return _by_text(Apart("json_schema", {"schema": loaded, "draft": DRAFT}, seconds))
