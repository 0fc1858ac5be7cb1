"""Importing plugins one by one: each either becomes usable or a record of why it is not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from aligntune_core.discovery import Entry
from aligntune_core.plugins.control import check_requirement
from aligntune_core.plugins.failure import Disabled, LoadFailure
from aligntune_core.plugins.guard import guarded

log = logging.getLogger("aligntune")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """What became of the entry points of a group, each list sorted by name."""

    good: tuple[T, ...]
    failures: tuple[LoadFailure, ...]
    disabled: tuple[Disabled, ...]


def _load(
    entry: Entry, make: Callable[[Entry, object], T], describe: Callable[[T], object]
) -> tuple[list[T], list[LoadFailure]]:
    """Check, import and register one plugin; a failure is given back with its phase, never raised."""
    phase = "checked"
    try:
        check_requirement(entry)
        phase = "imported"
        with guarded(f"the import of the plugin '{entry.name}' ({entry.origin})"):
            plugin = entry.load()
            phase = "registered"
            made = make(entry, plugin)
        phase = "described"
        describe(made)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit at import is one of the ways to fail
        return [], [LoadFailure(entry, phase, error)]
    return [made], []


def load_each(
    passed: Iterable[Entry],
    failures: Iterable[LoadFailure],
    disabled: Iterable[Disabled],
    make: Callable[[Entry, object], T],
    describe: Callable[[T], object],
) -> Loaded[T]:
    """Load those that passed; the failures found before are kept with the new ones.

    Args:
        passed, failures, disabled: as `admitted` gives them.
        make: wraps an imported plugin, and refuses one that does not fit.
        describe: asks what has to be known at once, while the plugin can still be refused.
    """
    good: list[T] = []
    broken = list(failures)
    for entry in passed:
        made, failed = _load(entry, make, describe)
        good += made
        broken += failed
    return Loaded(tuple(good), tuple(sorted(broken, key=_order)), tuple(sorted(disabled, key=_order)))


def _order(problem: LoadFailure | Disabled) -> tuple[str, str, str]:
    return problem.entry.name, problem.entry.origin, problem.entry.value
