"""The parts that rows are made of: text, and conversations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aligntune_core.errors import kind_of

ROLES = ("system", "developer", "user", "assistant", "tool")
Message = dict[str, str]


def text_of(row: Mapping[str, Any], column: str) -> str:
    """A column that must be text.

    Raises:
        ValueError: it is something else.
    """
    value = row.get(column)
    if not isinstance(value, str):
        raise ValueError(f"column '{column}': {kind_of(value)}, expected text")
    return value


def messages_of(value: Any, column: str) -> list[Message]:
    """A column that must be a conversation; what is not role or content is left out.

    Raises:
        ValueError: it is something else; with the number of the message.
    """
    if not isinstance(value, list):
        raise ValueError(f"column '{column}': {kind_of(value)}, expected a list of {{role, content}}")
    if not value:
        raise ValueError(f"column '{column}': an empty list")
    found = []
    for turn, message in enumerate(value, 1):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            raise ValueError(f"column '{column}', message {turn}: role {role!r:.30} is none of {', '.join(ROLES)}")
        content = message.get("content")
        if not isinstance(content, str):
            raise ValueError(f"column '{column}', message {turn}: content is {kind_of(content)}, expected text")
        found.append({"role": role, "content": content})
    return found


def with_system(messages: list[Message], system_prompt: str | None) -> list[Message]:
    """The conversation, after the system prompt where it has none of its own."""
    if system_prompt and (not messages or messages[0]["role"] not in ("system", "developer")):
        return [{"role": "system", "content": system_prompt}, *messages]
    return messages


def question(row: Mapping[str, Any]) -> str:
    """An instruction and its input as one question: with a blank line between.

    Raises:
        ValueError: one of them is no text.
    """
    instruction = text_of(row, "instruction")
    context = "" if row.get("input") is None else text_of(row, "input")
    return f"{instruction}\n\n{context}" if context.strip() else instruction
