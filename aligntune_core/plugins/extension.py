"""Plugins that are no backends: the commands, callbacks (trackers) and rewards that they bring. None loads unasked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from aligntune_core.discovery import PLUGINS, Entry, entries, is_plain
from aligntune_core.errors import LONGEST_NAME, PluginContractError
from aligntune_core.hookspecs import PluginSpecs
from aligntune_core.plugins.blaming import blaming
from aligntune_core.plugins.control import Control, admitted
from aligntune_core.plugins.failure import Disabled, LoadFailure
from aligntune_core.plugins.guard import guarded, refuse_from_within
from aligntune_core.plugins.loading import Loaded, load_each
from aligntune_core.plugins.manager import Hooks
from aligntune_core.values import Callback, RunInfo

if TYPE_CHECKING:
    import click

    from aligntune_core.rewards.values import Reward


MOST = 100
"""Commands or callbacks of one plugin."""


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
        who = f"the plugin '{self.name}' ({self.entry.origin})"
        with blaming(hook, who, self._broke), guarded(f"{hook}() of {who}"):
            given = list(islice(self._hooks.call(hook, **arguments) or (), MOST + 1))
        if len(given) > MOST:
            raise self._broke(f"{hook}() gave more than {MOST}")
        for thing in given:
            if not isinstance(thing, kind):
                raise self._broke(f"{hook}() gave {type(thing).__name__[:LONGEST_NAME]}, which is no {kind.__name__}")
        return given

    def _broke(self, problem: str) -> PluginContractError:
        remedy = f"upgrade {self.entry.distribution} or report it to its authors"
        return PluginContractError(f"{problem} ({self.entry.origin})", remedy, field="plugin", value=self.name)

    @property
    def commands(self) -> Mapping[str, click.Command]:
        """Its commands by name; `aligntune NAME COMMAND` runs one.

        Raises:
            PluginContractError: the hook gave something else.
        """
        import click

        found: dict[str, click.Command] = {}
        for command in self._asked("provides_commands", click.Command):
            name = command.name
            if not isinstance(name, str) or not is_plain(name.replace("-", "_")) or name in found:
                raise self._broke("provides_commands() gave a command without a plain name of its own")
            found[name] = command
        return found

    def callbacks(self, run: RunInfo) -> list[Callback]:
        """What follows this run.

        Raises:
            PluginContractError: the hook gave something else.
        """
        return self._asked("provides_callbacks", Callback, run=run)

    @property
    def rewards(self) -> list[Reward]:
        """The rewards that it brings.

        Raises:
            PluginContractError: the hook gave something else.
        """
        from aligntune_core.rewards.values import Reward  # only a run with a reward of a plugin's needs it

        return self._asked("provides_rewards", Reward)


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
