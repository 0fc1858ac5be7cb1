"""The callbacks of plugins, held at arm's length: one that fails is warned of and left out, and the run goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from aligntune_core.errors import told
from aligntune_core.values import Callback

log = logging.getLogger("aligntune")


class Tolerated(Callback):
    """A callback whose failure ends itself and not the run.

    Args:
        callback: what a plugin gave.
        who: the plugin, as the warning names it.
    """

    def __init__(self, callback: Callback, who: str) -> None:
        self._callback, self._who, self._failed = callback, who, False

    def _tell(self, moment: str, call: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            call()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a tracker raises, SystemExit too
            self._failed = True
            log.warning("%s failed in %s() and is left out from now on: %s", self._who, moment, told(error))

    def start(self, first: int, steps_planned: int) -> None:
        self._tell("start", lambda: self._callback.start(first, steps_planned))

    def step(self, step: int) -> None:
        self._tell("step", lambda: self._callback.step(step))

    def row(self, row: Mapping[str, Any]) -> None:
        self._tell("row", lambda: self._callback.row(dict(row)))

    def stop(self) -> None:
        self._tell("stop", self._callback.stop)

    def end(self, status: str) -> None:
        self._tell("end", lambda: self._callback.end(status))
