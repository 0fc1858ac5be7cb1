"""Entry points without an installed distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aligntune_core.discovery import BACKENDS, Entry
from aligntune_core.plugins import BackendRegistry, load_registry


@dataclass(frozen=True)
class FakeDistribution:
    """What the loader reads of a distribution; without a name it is called `aligntune-` and the plugin's name."""

    name: str = ""
    version: str = "1.0"
    requires: tuple[str, ...] = ()


def fake_entry(
    name: str,
    plugin: Any,
    dist: FakeDistribution = FakeDistribution(),
    value: str = "fake:plugin",
    group: str = BACKENDS,
) -> Entry:
    """An entry point that loads an object, or raises one that is an exception."""

    def load() -> Any:
        if isinstance(plugin, BaseException):
            raise plugin
        return plugin

    return Entry(
        name=name,
        value=value,
        group=group,
        distribution=dist.name or f"aligntune-{name}",
        version=dist.version,
        requires=dist.requires,
        load=load,
    )


def make_registry(*entries: Entry, environ: Mapping[str, str] | None = None) -> BackendRegistry:
    """A registry of these entry points, loaded as installed ones are; no environment variable counts unless given."""
    return load_registry(lambda: (list(entries), {}), environ or {})
