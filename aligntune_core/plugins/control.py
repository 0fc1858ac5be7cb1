"""What the user's environment variables say of plugins, and which of those found may be loaded. No plugin runs here."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from aligntune_core.algorithms import fold
from aligntune_core.discovery import BACKENDS, PROJECT, Entry, is_plain
from aligntune_core.errors import LONGEST_NAME, AlignTuneError, PluginContractError
from aligntune_core.ours import EXTRAS, owner
from aligntune_core.plugins.failure import Disabled, LoadFailure

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

log = logging.getLogger("aligntune")

_REQUIREMENT = re.compile(rf"{PROJECT}(?![\w.-])\s*(?:\[[^\]]*\])?\s*\(?([^;@)]*)\)?\s*(;|@)?", re.IGNORECASE)
"""A requirement on us, its version part, and whether more follows; `packaging` would read all of it in 8 ms."""


def _listed(variable: str, environ: Mapping[str, str]) -> frozenset[str] | None:
    """The comma-separated names in an environment variable, folded; None where it is not set."""
    raw = environ.get(variable)
    return None if raw is None else frozenset(fold(part) for part in raw.split(",") if fold(part))


@dataclass(frozen=True, slots=True)
class Control:
    """The user's word on plugins. `allow` is None where every plugin is allowed; `deny` wins."""

    allow: frozenset[str] | None = None
    deny: frozenset[str] = frozenset()
    strict: bool = False
    trace: bool = False

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Control:
        """From ALIGNTUNE_PLUGINS, _DISABLE_PLUGINS, _STRICT_PLUGINS and _TRACE_PLUGINS (default: the process's)."""
        environ = os.environ if environ is None else environ
        return cls(
            allow=_listed("ALIGNTUNE_PLUGINS", environ),
            deny=_listed("ALIGNTUNE_DISABLE_PLUGINS", environ) or frozenset(),
            strict=environ.get("ALIGNTUNE_STRICT_PLUGINS") == "1",
            trace=environ.get("ALIGNTUNE_TRACE_PLUGINS") == "1",
        )

    def refusal(self, entry: Entry) -> Disabled | None:
        """Why this entry point must not be loaded, or None."""
        name = fold(entry.name)
        if name in self.deny:
            remedy = f"take '{entry.name}' out of that variable"
            return Disabled(entry, "it is switched off by ALIGNTUNE_DISABLE_PLUGINS", remedy)
        if self.allow is not None and name not in self.allow:
            remedy = f"add '{entry.name}' to that variable, or unset it"
            return Disabled(entry, "ALIGNTUNE_PLUGINS is set and does not name it", remedy)
        return None

    def tell_unknown(self, installed: Iterable[str]) -> None:
        """Warn of names that are allowed and that nobody has: they are misspelt, or not installed."""
        for name in sorted((self.allow or frozenset()) - {fold(i) for i in installed}):
            log.warning("ALIGNTUNE_PLUGINS names '%s', and no installed plugin is called so", name[:LONGEST_NAME])


def _contract(entry: Entry, problem: str, remedy: str) -> PluginContractError:
    return PluginContractError(problem, remedy, field="plugin", value=entry.name)


def can_be_asked_for(name: str) -> bool:
    """Whether a user could mean a plugin by this name."""
    return is_plain(name) and fold(name) != "auto"


def check_name(entry: Entry) -> None:
    """Refuse a name that could not be asked for.

    Raises:
        PluginContractError: it is not lower-case ASCII, is too long, or means `auto`.
    """
    if not can_be_asked_for(entry.name):
        problem = f"a name is lower-case letters, digits and _, at most {LONGEST_NAME}, and not auto"
        raise _contract(entry, problem, "rename the entry point")


@cache
def _installed_version() -> str:
    return metadata.version(PROJECT)


def check_requirement(entry: Entry) -> None:
    """Refuse, before import, a plugin whose own requirement on aligntune does not hold.

    Raises:
        PluginContractError: both versions are in its text.
    """
    for text in entry.requires:
        found = _REQUIREMENT.match(text)
        if found is None:
            continue
        from packaging.specifiers import SpecifierSet

        specifier = SpecifierSet(found[1].strip()) if found[2] is None else _with_marker(text)
        if not specifier.contains(_installed_version(), prereleases=True):
            problem = f"it needs aligntune{specifier}, and {_installed_version()} is installed"
            raise _contract(entry, problem, f"install a version of {entry.distribution} that fits")


def _with_marker(text: str) -> SpecifierSet:
    """The version part of a requirement that holds under a condition, or is an address; empty where it does not."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    requirement = Requirement(text)
    holds = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    return requirement.specifier if holds else SpecifierSet("")


def _is_ours(entry: Entry) -> bool:
    return entry.name in EXTRAS and re.sub(r"[-_.]+", "-", entry.distribution).lower() == owner(entry.name)


def _contest(entries: list[Entry]) -> tuple[list[Entry], list[LoadFailure]]:
    """Of entry points whose names mean the same: the one that may have it, and why the others may not.

    The name of a backend of ours is ours alone; any other goes to nobody while two claim it: which one would
    win is an accident of how they were installed.
    """
    ours = sorted(name for name in EXTRAS if fold(name) == fold(entries[0].name))
    if ours and entries[0].group == BACKENDS:
        rightful = [e for e in entries if _is_ours(e)][:1]
        problem = f"the name '{ours[0]}' belongs to {owner(ours[0])}"
        return rightful, [_refused(e, f"{problem} ({e.origin})", "uninstall it") for e in entries if e not in rightful]
    if len(entries) == 1:
        return entries, []
    claims = " and ".join(sorted(f"'{e.name}' of {e.origin} ({e.value})" for e in entries))
    return [], [_refused(e, f"two plugins claim one name: {claims}", "uninstall one of them") for e in entries]


def _refused(entry: Entry, problem: str, remedy: str) -> LoadFailure:
    return LoadFailure(entry, "found", _contract(entry, problem, remedy))


def admitted(entries: Iterable[Entry], control: Control) -> tuple[list[Entry], list[LoadFailure], list[Disabled]]:
    """The entry points that may be imported, sorted by name, and what is to be said of the others."""
    failures: list[LoadFailure] = []
    disabled: list[Disabled] = []
    by_meaning: dict[str, dict[tuple[str, str, str], Entry]] = {}
    for entry in entries:
        if refusal := control.refusal(entry):
            disabled.append(refusal)
            continue
        try:
            check_name(entry)
        except AlignTuneError as error:
            failures.append(LoadFailure(entry, "checked", error))
            continue
        same = by_meaning.setdefault(fold(entry.name), {})
        same.setdefault((entry.name, entry.origin, entry.value), entry)  # one distribution may be found twice
    passed: list[Entry] = []
    for _, claims in sorted(by_meaning.items()):
        good, bad = _contest([claims[key] for key in sorted(claims)])
        passed += good
        failures += bad
    return passed, failures, disabled
