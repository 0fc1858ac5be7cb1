"""Small pieces of Markdown, and docstrings as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

NOTICE = "<!-- Made by docs/generate.py from the code; changes here are lost. -->"

_SECTION = re.compile(r"^(Args|Attributes|Example|Raises|Returns|Rules):\n", re.MULTILINE)
_ENTRY = re.compile(r"^(\w+(?:, \w+)*): ")


def page(title: str, *parts: str) -> str:
    """A generated page."""
    return "\n\n".join((f"# {title}", NOTICE, *(part.strip() for part in parts if part))) + "\n"


def code(text: str) -> str:
    """Text as code within a line."""
    return f"`{text}`"


def fence(text: str, language: str = "python") -> str:
    """Text as a block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar within a cell stays in its cell."""
    lines = [header, ["---"] * len(header), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _entries(text: str) -> str:
    """`name: meaning` entries as a list."""
    joined = re.sub(r"\n\s+", " ", inspect.cleandoc(text))
    return "\n".join(
        "- " + _ENTRY.sub(lambda found: ", ".join(map(code, found[1].split(", "))) + ": ", line)
        for line in joined.splitlines()
    )


def docstring(text: str | None) -> str:
    """A docstring: its words as they are, its sections as lists, its example as code."""
    first, *rest = _SECTION.split(inspect.cleandoc(text or ""))
    parts = [first.strip()]
    for name, body in zip(rest[::2], rest[1::2], strict=True):
        if name == "Example":
            parts.append(fence(inspect.cleandoc(body)))
        elif name in ("Args", "Attributes", "Raises"):
            parts.append(f"{name}:\n\n{_entries(body)}")
        else:
            parts.append(f"{name}: {' '.join(body.split())}")
    return "\n\n".join(part for part in parts if part)
