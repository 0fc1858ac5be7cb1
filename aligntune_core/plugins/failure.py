"""A plugin that is not usable, as data: why it failed, or which variable switched it off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from aligntune_core.discovery import BACKENDS, Entry
from aligntune_core.errors import (
    AlignTuneError,
    BackendUnavailableError,
    PluginContractError,
    PluginLoadError,
    first_line,
    gist,
    told,
)


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """Why a plugin is not usable: the phase (found, checked, imported, registered, described) and the error."""

    entry: Entry
    phase: str
    error: BaseException

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def message(self) -> str:
        """The error's text in a line."""
        return self.error.problem if isinstance(self.error, AlignTuneError) else first_line(self.error)

    @property
    def reason(self) -> str:
        """The error in a line; one of ours speaks for itself."""
        ours = isinstance(self.error, AlignTuneError)
        return self.message if ours else told(self.error)

    def raise_(self) -> NoReturn:
        """Raise for a user who asked for this plugin by name."""
        named: dict[str, Any] = {"field": "backend" if self.entry.group == BACKENDS else "plugin", "value": self.name}
        if isinstance(self.error, PluginContractError):
            where = "" if self.entry.origin in self.error.problem else f" ({self.entry.origin})"
            raise PluginContractError(self.error.problem + where, self.error.remedy, **named) from self.error
        raise PluginLoadError(
            f"this plugin cannot be loaded ({self.entry.origin}, while it was {self.phase}): {gist(self.reason)}",
            "see 'aligntune plugins' for the details",
            **named,
        ) from self.error


@dataclass(frozen=True, slots=True)
class Disabled:
    """A plugin that is installed and that an environment variable switched off."""

    entry: Entry
    reason: str
    remedy: str

    def raise_(self) -> NoReturn:
        """Raise for a user who asked for this plugin by name."""
        field = "backend" if self.entry.group == BACKENDS else "plugin"
        raise BackendUnavailableError(self.reason, self.remedy, field=field, value=self.entry.name)
