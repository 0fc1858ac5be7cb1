"""What is installed, read from metadata alone: no plugin's code runs here, so it costs little and cannot fail."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from aligntune_core.errors import LONGEST_NAME, one_line

PROJECT = "aligntune"
BACKENDS = "aligntune.backends"
"""The entry-point group of backends: one backend each, called as the entry point."""
PLUGINS = "aligntune.plugins"
"""The group of all other plugins: commands and trackers."""
NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
"""A plugin's or an algorithm's name: ASCII, so that no two different ones look alike; at most `LONGEST_NAME` long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry point of ours, with what the metadata of its distribution says.

    Attributes:
        value: the module, or `module:attribute`, that the entry point names.
        requires: the requirements of the distribution, as its metadata has them.
        load: imports it; nothing is imported before.
    """

    name: str
    value: str = ""
    group: str = BACKENDS
    distribution: str = "unknown"
    version: str = "unknown"
    requires: tuple[str, ...] = ()
    load: Callable[[], Any] = field(compare=False, repr=False)

    @property
    def origin(self) -> str:
        return f"{self.distribution} {self.version}"


def is_plain(name: str) -> bool:
    """Whether a plugin or an algorithm may be called so."""
    return bool(NAME.match(name)) and len(name) <= LONGEST_NAME


def headers(distribution: metadata.Distribution) -> dict[str, list[str]]:
    """The head of a distribution's metadata; the parser of e-mails in the standard library takes ten times as long."""
    found: dict[str, list[str]] = {}
    try:
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    except (OSError, ValueError):  # not there, or not text
        return found
    for line in text.splitlines():
        if not line:
            break  # what follows is the readme
        name, colon, value = line.partition(": ")
        if colon and not name[:1].isspace():
            found.setdefault(name.lower(), []).append(value.strip())
    return found


def _one_by_one(group: str) -> tuple[list[metadata.EntryPoint], dict[str, Exception]]:
    """Each distribution for itself: its entry points, or why they cannot be read."""
    points: list[metadata.EntryPoint] = []
    broken: dict[str, Exception] = {}
    for distribution in metadata.distributions():
        try:
            points += distribution.entry_points.select(group=group)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one must not hide the others
            broken[one_line(headers(distribution).get("name", ["unknown"])[0], LONGEST_NAME)] = error
    return points, broken


def _find(group: str) -> tuple[list[metadata.EntryPoint], dict[str, Exception]]:
    try:
        return list(metadata.entry_points(group=group)), {}
    except Exception:  # noqa: BLE001 - one broken file among those of all distributions ends the whole search
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # pydantic would end at the same file
        return _one_by_one(group)


def names(group: str) -> list[str]:
    """The plain names in a group, sorted; the metadata of their distributions is not even opened."""
    return sorted({point.name for point in _find(group)[0] if is_plain(point.name)})


def _shown(name: str) -> str:
    """A name as it is; one that is too long or unprintable in quotes, so that it is refused and can be printed."""
    return name if name.isprintable() and len(name) <= LONGEST_NAME else one_line(repr(name), LONGEST_NAME)


def _entry(point: metadata.EntryPoint) -> Entry:
    head = headers(point.dist) if point.dist else {}
    return Entry(
        name=_shown(point.name),
        value=one_line(point.value, 2 * LONGEST_NAME),
        group=point.group,
        distribution=one_line(head.get("name", ["unknown"])[0], LONGEST_NAME),
        version=one_line(head.get("version", ["unknown"])[0], LONGEST_NAME),
        requires=tuple(head.get("requires-dist", ())),
        load=point.load,
    )


def entries(group: str) -> tuple[list[Entry], dict[str, Exception]]:
    """The entry points of a group with their origin, in no particular order; and the distributions that are broken."""
    points, broken = _find(group)
    return [_entry(point) for point in points], broken
