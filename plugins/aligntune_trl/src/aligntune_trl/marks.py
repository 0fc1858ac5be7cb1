"""Marks around words that a template is to write, so that it can be seen where it writes them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

Span = tuple[int, int]
"""Where something begins in a text, and where it ends."""


def with_marks(message: Mapping[str, Any], opened: str, closed: str) -> dict[str, Any]:
    """A message with marks around its words and around the name of each function that it calls."""
    marked, words = dict(message), message["content"].strip()
    if words:
        marked["content"] = message["content"].replace(words, f"{opened}{words}{closed}", 1)
    if "tool_calls" in message:
        marked["tool_calls"] = calls = copy.deepcopy(message["tool_calls"])
        for call in calls:
            function = call.get("function", call)
            function["name"] = f"{opened}{function['name']}{closed}"
    return marked


def places_of(written: str, opened: str, closed: str) -> list[Span] | None:
    """Where marked words stand in the text without the marks; None where marks do not come in pairs."""
    first, *others = written.split(opened)
    if closed in first or any(piece.count(closed) != 1 for piece in others):
        return None
    found, position = [], len(first)
    for piece in others:
        length = piece.index(closed)
        found.append((position, position + length))
        position += len(piece) - 1
    return found


def unused(text: str) -> tuple[str, str]:
    """Two characters that are nowhere in a text, from those that mean nothing."""
    free = (chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)
    return next(free), next(free)
