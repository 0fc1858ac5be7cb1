"""One plugin behind pluggy, alone: no other plugin can answer for it, stand around it or take it away."""

from __future__ import annotations

import sys
from typing import Any

import pluggy

from aligntune_core.discovery import PROJECT, Entry
from aligntune_core.errors import PluginContractError
from aligntune_core.plugins.border import check_hooks


def specified(specs: type) -> tuple[str, ...]:
    """The hooks of a class of specifications, in their order."""
    return tuple(name for name in vars(specs) if not name.startswith("_"))


class Hooks:
    """The hooks of one plugin.

    Args:
        entry: where the plugin comes from.
        plugin: what its entry point names.
        specs: the class of hook specifications of its group.
        required: the hooks that it must have.
        trace: write each call to standard error.

    Raises:
        PluginContractError: it does not fit the specifications.
    """

    def __init__(self, entry: Entry, plugin: object, specs: type, required: tuple[str, ...], *, trace: bool) -> None:
        self._entry, self._plugin, self._specs, self._trace = entry, plugin, specs, trace
        self.names = specified(specs)
        manager = self._empty()
        check_hooks(plugin, self.names, required, lambda hook: manager.parse_hookimpl_opts(plugin, hook))
        self._manager = self._registered(manager)
        self.present = [name for name in self.names if self._implemented(name)]
        """The hooks that the plugin has."""

    def _empty(self) -> pluggy.PluginManager:
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(self._specs)
        if self._trace:
            manager.trace.root.setwriter(lambda text: sys.stderr.write(text))  # whatever it is at that moment
            manager.enable_tracing()
        return manager

    def _registered(self, manager: pluggy.PluginManager) -> pluggy.PluginManager:
        try:
            manager.register(self._plugin, name=self._entry.name)
        except pluggy.PluginValidationError as error:
            raise PluginContractError(" ".join(str(error).split()), "see the reference of the hooks") from error
        return manager

    def _implemented(self, hook: str) -> bool:
        return bool(getattr(self._manager.hook, hook).get_hookimpls())

    def call(self, hook: str, **arguments: Any) -> Any:
        """Ask one hook; None where the plugin does not have it."""
        taken_away = hook in self.present and not self._implemented(hook)
        if taken_away:  # by another plugin, which got at the manager somehow
            self._manager = self._registered(self._empty())
        return getattr(self._manager.hook, hook)(**arguments)
