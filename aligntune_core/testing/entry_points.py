"""Entry points without an installed distribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, cast

from aligntune_core.plugins import BackendRegistry, load_registry


@dataclass(frozen=True)
class FakeDistribution:
    """What the loader reads of a distribution."""

    name: str = "aligntune-fake"
    version: str = "1.0"
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class FakeEntryPoint:
    """An entry point that loads an object, or raises one that is an exception."""

    name: str
    plugin: Any
    dist: FakeDistribution = field(default_factory=FakeDistribution)
    value: str = "fake:plugin"

    def load(self) -> Any:
        if isinstance(self.plugin, BaseException):
            raise self.plugin
        return self.plugin


def make_registry(*entries: FakeEntryPoint, environ: Mapping[str, str] | None = None) -> BackendRegistry:
    """A registry of these entry points, loaded as installed ones are; no environment variable counts unless given."""
    return load_registry(lambda: cast("list[metadata.EntryPoint]", list(entries)), environ or {})
