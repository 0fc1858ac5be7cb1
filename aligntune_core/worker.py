"""The worker: a fresh Python that one backend has to itself. Started by `aligntune_core.isolation`, never by hand.

    python -P -m aligntune_core.worker DESCRIPTOR

It answers calls over the socket until that is closed. What is printed here goes to the parent's file; what is logged
goes over the socket, and is logged again there.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aligntune_core.installed import default_registry
from aligntune_core.isolation import carried, travel
from aligntune_core.isolation.channel import Channel, Message
from aligntune_core.memory import peak
from aligntune_core.plugins.checked import CheckedTrainer


class Forwarded(logging.Handler):
    """Sends what is logged to the parent; once that is gone, nothing."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            text = self.format(record)
            self._channel.send({"log": {"name": record.name, "level": record.levelno, "text": text}})


class Events:
    """The `RunEvents` of the loop here: each call is answered by the parent before the loop goes on."""

    def __init__(self, channel: Channel, resume_from: str | None) -> None:
        self._channel = channel
        self.resume_from = None if resume_from is None else Path(resume_from)
        self.stopping = False

    def _tell(self, what: str, **arguments: Any) -> None:
        self._channel.send({"told": what, "arguments": arguments})
        reply = self._channel.receive()
        self.stopping = reply["stopping"]
        if "refused" in reply:
            raise carried.unpacked(reply["refused"])

    def start(self, steps_planned: int) -> None:
        self._tell("start", steps_planned=steps_planned)

    def step(self, step: int) -> None:
        self._tell("step", step=step)

    def metrics(self, step: int, values: Mapping[str, float], *, epoch: float, split: str = "train") -> None:
        self._tell("metrics", step=step, values=dict(values), epoch=epoch, split=split)

    def checkpoint(self, step: int, folder: Path) -> None:
        self._tell("checkpoint", step=step, folder=folder)

    def sample(self, step: int, prompt: str, completion: str) -> None:
        self._tell("sample", step=step, prompt=prompt, completion=completion)


class Served:
    """What the parent may call.

    Args:
        channel: to the parent.
        backend: the backend's name.
        preload: modules that are imported at once, while the parent reads rows; one that fails is told when a trainer
            is built.
    """

    def __init__(self, channel: Channel, backend: str, preload: Sequence[str]) -> None:
        self._channel, self._name = channel, backend
        self._trainer: CheckedTrainer | None = None
        self._failed: BaseException | None = None
        try:
            for module in preload:
                importlib.import_module(module)
        except BaseException as error:  # noqa: BLE001 - an import may raise anything, SystemExit too
            self._failed = error

    @property
    def _ready(self) -> CheckedTrainer:
        if self._trainer is None:
            raise RuntimeError("nothing has been built in this worker")
        return self._trainer

    def loaded(self) -> None:
        """Whether the modules could be imported."""
        if self._failed is not None:
            raise self._failed

    def build(self, request: dict[str, Any]) -> None:
        self.loaded()
        registry = default_registry()
        registry.raise_unusable(self._name)
        backend = registry.backends[self._name]
        self._trainer = backend.build_trainer(travel.unpacked(request, backend))

    def resolved(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(json.dumps(dict(self._ready.resolved), default=str))
        return found

    def train(self, resume_from: str | None) -> None:
        self._ready.train(Events(self._channel, resume_from))

    def evaluate(self) -> dict[str, float]:
        return dict(self._ready.evaluate())

    def predict(self, inputs: list[Any]) -> list[Any]:
        return self._ready.predict(inputs)

    def save(self, path: str) -> None:
        self._ready.save(Path(path))

    def peak(self) -> dict[str, int | None]:
        return peak()

    def preview(self, rows: list[Any]) -> list[Any]:
        return [[list(row.input_ids), list(row.labels)] for row in self._ready.preview(rows)]


def answer(served: Served, message: Message) -> Message:
    """What came of a call."""
    try:
        return {"done": getattr(served, message["call"])(**message["arguments"])}
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent is told
        traceback.print_exc()  # into the run's worker.log
        return {"failed": carried.packed(error)}


def serve(channel: Channel) -> None:
    """Answer until the parent closes the socket."""
    start = channel.receive()
    sys.path[:] = start["path"]
    logging.getLogger().addHandler(Forwarded(channel))
    logging.getLogger("aligntune").setLevel(logging.INFO)
    logging.captureWarnings(True)
    served = Served(channel, start["backend"], start["preload"])
    while True:
        try:
            message = channel.receive()
        except EOFError:
            return
        said = answer(served, message)
        try:
            channel.send(said)
        except TypeError as error:  # an answer that JSON has no word for
            channel.send({"failed": carried.packed(error)})


def main(descriptor: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and asks the loop to stop
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        serve(Channel(socket.socket(fileno=int(descriptor))))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what a library left running does not hold the parent up


if __name__ == "__main__":
    main(sys.argv[1])
