"""The registry of backends: an ordinary, frozen value that does not depend on the order of discovery."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

from aligntune_core.discovery import BACKENDS, PLUGINS, Entry, entries, names
from aligntune_core.plugins.backend import Backend
from aligntune_core.plugins.control import Control, admitted, can_be_asked_for
from aligntune_core.plugins.failure import Disabled, LoadFailure
from aligntune_core.plugins.fingerprint import fingerprint
from aligntune_core.plugins.guard import refuse_from_within
from aligntune_core.plugins.loading import Loaded, load_each

log = logging.getLogger("aligntune")


class BackendRegistry:
    """The usable backends by name, what went wrong with others, and what is switched off. It cannot be changed.

    A name may be in `backends` and in `failures`: an intruder that claims the name of a backend of ours.
    """

    backends: Mapping[str, Backend]
    failures: Mapping[str, LoadFailure]
    disabled: Mapping[str, Disabled]

    def __init__(
        self, backends: Iterable[Backend] = (), failures: Iterable[LoadFailure] = (), disabled: Iterable[Disabled] = ()
    ) -> None:
        by_name = {b.name: b for b in sorted(backends, key=lambda b: b.name)}
        object.__setattr__(self, "backends", MappingProxyType(by_name))
        object.__setattr__(self, "failures", MappingProxyType({f.name: f for f in failures}))
        object.__setattr__(self, "disabled", MappingProxyType({d.entry.name: d for d in disabled}))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a registry cannot be changed: {name}")

    def __iter__(self) -> Iterator[Backend]:
        return iter(self.backends.values())

    def __contains__(self, name: object) -> bool:
        return name in self.backends

    @property
    def known(self) -> frozenset[str]:
        """The names of all that is installed, usable or not, and that can be asked for."""
        return frozenset(name for name in (*self.backends, *self.failures, *self.disabled) if can_be_asked_for(name))

    @property
    def extra_algorithms(self) -> frozenset[str]:
        """Names of all algorithms that the backends train."""
        return frozenset(name for backend in self for name in backend.algorithms)

    def raise_unusable(self, name: str) -> None:
        """For a backend that was asked for: raise what is wrong with it; nothing where it is usable.

        Raises:
            PluginLoadError, PluginContractError: it is broken.
            BackendUnavailableError: it is switched off.
        """
        if name in self.backends or name not in self.known:
            return
        if (problem := self.failures.get(name) or self.disabled.get(name)) is not None:
            problem.raise_()

    def snapshot(self) -> tuple[Mapping[str, str], ...]:
        """What is loaded, for `run.json`: name, distribution, version, entry point, a hash of the plugin's files."""
        return tuple(
            {
                "name": b.name,
                "distribution": b.distribution,
                "version": b.version,
                "entry_point": b.entry.value,
                "sha256": fingerprint(b.entry.value),
            }
            for b in self
        )


def load_backends(found: Iterable[Entry], control: Control, broken: Iterable[LoadFailure] = ()) -> Loaded[Backend]:
    """Load those of the entry points that may be loaded; `broken` are failures that are known already."""
    passed, failures, disabled = admitted(found, control)
    return load_each(
        passed,
        [*failures, *broken],
        disabled,
        make=lambda entry, plugin: Backend(entry, plugin, trace=control.trace),
        describe=lambda backend: backend.algorithms,
    )


def load_registry(
    find: Callable[[], tuple[list[Entry], Mapping[str, Exception]]] = lambda: entries(BACKENDS),
    environ: Mapping[str, str] | None = None,
) -> BackendRegistry:
    """Load every allowed backend plugin, in an order that does not depend on how they were found.

    Args:
        find: gives the entry points, and the distributions whose metadata is broken; tests give their own.
        environ: where the ALIGNTUNE_* variables are read (default: the process's).

    Raises:
        PluginLoadError: only with ALIGNTUNE_STRICT_PLUGINS=1, for the first plugin that fails.
    """
    refuse_from_within()
    control = Control.read(environ)
    found, broken = find()
    if control.allow is not None:
        control.tell_unknown([*(entry.name for entry in found), *names(PLUGINS)])
    loaded = load_backends(found, control, [unreadable(name, error) for name, error in broken.items()])
    for failure in loaded.failures:
        if control.strict:
            failure.raise_()
    lines = (f"the plugin '{f.name}' ({f.entry.origin}) is left out: {f.reason}" for f in loaded.failures)
    for line in dict.fromkeys(lines):  # two that claim one name may say the same
        log.warning("%s", line)
    return BackendRegistry(loaded.good, loaded.failures, loaded.disabled)


def unreadable(distribution: str, error: Exception) -> LoadFailure:
    """The record of a distribution whose metadata cannot be read, so that nobody knows what it brings."""
    return LoadFailure(Entry(name=distribution, distribution=distribution, load=object), "found", error)
