"""Tools that an assistant may call: their JSON schemas, and the calls in a conversation, in the form of transformers.

    a call      {"type": "function", "function": {"name", "arguments": {...}}[, "id"]}
    a tool      as it stands: {"type": "function", "function": {"name", ...}}, or {"name", ...}

Files hold either as objects or as JSON text, since a table of one type has no place for arguments that differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aligntune_core.errors import kind_of


def _parsed(value: Any, where: str) -> Any:
    """JSON text as what it says; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: the text is not JSON") from error


def _name_of(tool: Mapping[str, Any], where: str) -> str:
    name = tool.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}: the function has no name")
    return name


def _call(given: Any, where: str) -> dict[str, Any]:
    call = _parsed(given, where)
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        raise ValueError(f"{where}: {kind_of(call)}, expected {{function: {{name, arguments}}}}")
    arguments = _parsed(function.get("arguments"), f"{where}, arguments")
    if not isinstance(arguments, Mapping | None):
        raise ValueError(f"{where}: arguments are {kind_of(arguments)}, expected a mapping")
    called = {"name": _name_of(function, where), "arguments": dict(arguments or {})}
    number = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {"type": "function", "function": called, **number}


def calls_of(value: Any, where: str) -> list[dict[str, Any]]:
    """The calls of a message: one, a list of them, or either as JSON text.

    Raises:
        ValueError: it is something else, or a call has no name; `where` says of which column and message.
    """
    given = _parsed(value, where)
    return [_call(call, where) for call in (given if isinstance(given, list) else [given])]


def tools_of(row: Mapping[str, Any], column: str = "tools") -> list[dict[str, Any]]:
    """The tools of a row, as they stand; none where the column is not there, null or empty.

    Raises:
        ValueError: it is no list of JSON schemas, nor the JSON text of one.
    """
    where = f"column '{column}'"
    value = row.get(column)
    given = None if isinstance(value, str) and not value.strip() else _parsed(value, where)
    found = []
    for number, tool in enumerate(given if isinstance(given, list) else [] if given is None else [given], 1):
        schema = _parsed(tool, f"{where}, tool {number}")
        if not isinstance(schema, Mapping):
            raise ValueError(f"{where}, tool {number}: {kind_of(schema)}, expected a JSON schema")
        inner = schema.get("function")
        _name_of(inner if isinstance(inner, Mapping) else schema, f"{where}, tool {number}")
        found.append(dict(schema))
    return found
