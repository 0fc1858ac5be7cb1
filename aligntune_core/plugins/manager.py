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
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(specs)
        if trace:
            self._manager.trace.root.setwriter(sys.stderr.write)
            self._manager.enable_tracing()
        self.names = specified(specs)
        check_hooks(plugin, self.names, required, lambda hook: self._manager.parse_hookimpl_opts(plugin, hook))
        try:
            self._manager.register(plugin, name=entry.name)
        except pluggy.PluginValidationError as error:
            raise PluginContractError(" ".join(str(error).split()), "see the reference of the hooks") from error

    @property
    def present(self) -> list[str]:
        """The hooks that the plugin has."""
        return [name for name in self.names if getattr(self._manager.hook, name).get_hookimpls()]

    def call(self, hook: str, **arguments: Any) -> Any:
        """Ask one hook; None where the plugin does not have it."""
        return getattr(self._manager.hook, hook)(**arguments)
