"""The `BackendTrainer` that core holds while the real one is in a worker."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aligntune_core.errors import ConfigError
from aligntune_core.isolation import carried, travel
from aligntune_core.isolation.channel import Message
from aligntune_core.isolation.process import Worker
from aligntune_core.runs.folder import WORKER_LOG
from aligntune_core.values import RowTokens, RunEvents, TrainRequest


class RemoteTrainer:
    """A `BackendTrainer` in another process.

    Args:
        worker: which has been started.
        request: what is to be built there; it holds nothing that cannot travel.
        caches: the folder that the worker's libraries may keep files in; it is removed at the end.
    """

    def __init__(self, worker: Worker, request: TrainRequest, caches: Path) -> None:
        self._worker, self._caches, self._run_dir = worker, caches, request.work_dir.parent
        self._rows = tempfile.TemporaryDirectory(prefix="aligntune-rows-")
        try:
            self._worker.ask("build", request=travel.packed(request, Path(self._rows.name)))
            self.resolved: Mapping[str, Any] = self._worker.ask("resolved")
        except BaseException:
            self.close()
            raise

    @property
    def native(self) -> Any:
        """The library's trainer is in another process.

        Raises:
            ConfigError: always.
        """
        remedy = "set isolation: none where the backend can train in this process"
        raise ConfigError("the library's trainer is in a worker process", remedy, field="isolation")

    def train(self, events: RunEvents) -> None:
        """Run the loop there; what it tells goes to `events` here, before it goes on."""
        self._worker.output.into(self._run_dir / WORKER_LOG)
        listener = _Listener(events)
        try:
            self._worker.ask("train", listener.answer, resume_from=events.resume_from)
        except BaseException as error:
            if listener.refused is not None and str(listener.refused) == str(error):
                raise listener.refused from None
            raise

    def evaluate(self) -> Mapping[str, float]:
        found: Mapping[str, float] = self._worker.ask("evaluate")
        return found

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        found: list[Any] = self._worker.ask("predict", inputs=list(inputs))
        return found

    def save(self, path: Path) -> None:
        self._worker.ask("save", path=path)

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [RowTokens(*row) for row in self._worker.ask("preview", rows=[dict(row) for row in rows])]

    def peak(self) -> dict[str, int | None]:
        """The most memory that the worker has used; see `aligntune_core.memory.peak`."""
        found: dict[str, int | None] = self._worker.ask("peak")
        return found

    def close(self) -> None:
        """End the worker, and remove what its libraries kept."""
        self._worker.close()
        self._rows.cleanup()
        shutil.rmtree(self._caches, ignore_errors=True)


class _Listener:
    """Hands what the loop tells to the run's events.

    Attributes:
        refused: what one of them raised here; the loop raises it there, and it comes back.
    """

    def __init__(self, events: RunEvents) -> None:
        self._events = events
        self.refused: Exception | None = None

    def answer(self, said: Message) -> Message:
        arguments = said["arguments"]
        if said["told"] == "checkpoint":
            arguments["folder"] = Path(arguments["folder"])
        try:
            getattr(self._events, said["told"])(**arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the loop there as it would here
            self.refused = error
            return {"stopping": self._events.stopping, "refused": carried.packed(error)}
        return {"stopping": self._events.stopping}
