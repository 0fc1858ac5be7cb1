"""What a model or a data file says, made fit for a terminal: it would obey escape sequences in it."""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for tab and newline, marks that turn the direction of writing, and halves of characters."""


def visible(text: str) -> str:
    """The text with each such character written out, as JSON does."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def in_a_line(text: str) -> str:
    """The same for one line: line breaks are written out too."""
    return visible(text).replace("\n", "\\n")
