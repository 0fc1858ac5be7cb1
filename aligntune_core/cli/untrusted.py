"""What a model wrote, made fit for a terminal: it may hold escape sequences, and a terminal would obey them."""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for tab and newline, marks that turn the direction of writing, and halves of characters."""


def visible(text: str) -> str:
    """The text with each such character written out, as JSON does."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
