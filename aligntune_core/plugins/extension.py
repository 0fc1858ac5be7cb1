"""Plugins that are no backends: the commands and the callbacks (trackers) that they bring. None loads unasked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aligntune_core.discovery import PLUGINS, Entry, entries
from aligntune_core.errors import PluginContractError, blame
from aligntune_core.hookspecs import PluginSpecs
from aligntune_core.plugins.control import Control, admitted
from aligntune_core.plugins.failure import Disabled, LoadFailure
from aligntune_core.plugins.guard import guarded, refuse_from_within
from aligntune_core.plugins.loading import Loaded, load_each
from aligntune_core.plugins.manager import Hooks
from aligntune_core.values import Callback, RunInfo

if TYPE_CHECKING:
    import click


class Extension:
    """A loaded plugin of the group `aligntune.plugins`, with a typed door for each hook."""

    def __init__(self, entry: Entry, plugin: object, *, trace: bool = False) -> None:
        self.name, self.entry = entry.name, entry
        self._hooks = Hooks(entry, plugin, PluginSpecs, (), trace=trace)

    @property
    def hooks(self) -> list[str]:
        """The hooks that it has."""
        return self._hooks.present

    def _asked(self, hook: str, kind: type, **arguments: Any) -> list[Any]:
        who = f"{hook}() of the plugin '{self.name}' ({self.entry.origin})"
        with guarded(who):
            try:
                given = list(self._hooks.call(hook, **arguments) or ())
            except BaseException as error:
                blame(error, who)
                raise
        for thing in given:
            if not isinstance(thing, kind):
                problem = f"{hook}() gave {type(thing).__name__}, which is no {kind.__name__} ({self.entry.origin})"
                raise PluginContractError(problem, "report it to its authors", field="plugin", value=self.name)
        return given

    @property
    def commands(self) -> Mapping[str, click.Command]:
        """Its commands by name; `aligntune NAME COMMAND` runs one.

        Raises:
            PluginContractError: the hook gave something else.
        """
        import click

        return {str(command.name): command for command in self._asked("provides_commands", click.Command)}

    def callbacks(self, run: RunInfo) -> list[Callback]:
        """What follows this run.

        Raises:
            PluginContractError: the hook gave something else.
        """
        return self._asked("provides_callbacks", Callback, run=run)


def load_extensions(found: Iterable[Entry] | None = None, control: Control | None = None) -> Loaded[Extension]:
    """Load every allowed plugin of the group: only a report of all plugins needs that.

    Args:
        found: the entry points (default: the installed ones).
        control: what may load (default: what the environment says).
    """
    refuse_from_within()
    control = control or Control.read()
    passed, failures, disabled = admitted(entries(PLUGINS)[0] if found is None else found, control)
    return load_each(
        passed,
        failures,
        disabled,
        make=lambda entry, plugin: Extension(entry, plugin, trace=control.trace),
        describe=lambda extension: extension.hooks,
    )


def load_extension(name: str) -> Extension:
    """Load one plugin that was asked for.

    Raises:
        PluginLoadError, PluginContractError, BackendUnavailableError: it cannot be loaded, or is switched off.
    """
    loaded = load_extensions([entry for entry in entries(PLUGINS)[0] if entry.name == name])
    problems: tuple[LoadFailure | Disabled, ...] = (*loaded.failures, *loaded.disabled)
    for problem in problems:
        problem.raise_()
    return loaded.good[0]
