"""`log.txt`: what AlignTune and the libraries said, from the choice of the backend to the end of the run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from aligntune_core.runs.folder import LOG
from aligntune_core.runs.storage import writing

logging.getLogger("aligntune").setLevel(logging.INFO)

_FORMAT = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


class _Keep(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class _LogFile(logging.FileHandler):
    """A disk that is full costs lines of the log; the run's own error tells of it."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class RunLog:
    """Keeps what is said before there is a run folder, then writes it and all that follows into `log.txt`."""

    def __init__(self) -> None:
        self._early = _Keep()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Keep AlignTune's own messages in memory."""
        logger = logging.getLogger("aligntune")
        logger.addHandler(self._early)
        try:
            yield
        finally:
            logger.removeHandler(self._early)

    @contextlib.contextmanager
    def into(self, run_dir: Path | None) -> Iterator[None]:
        """Write to `run_dir/log.txt` (None: nowhere): our messages, and the libraries' warnings."""
        if run_dir is None:
            yield
            return
        with writing(run_dir / LOG):
            handler = _LogFile(run_dir / LOG, encoding="utf-8")
        handler.setFormatter(_FORMAT)
        for record in self._early.records:
            handler.handle(record)
        self._early.records.clear()
        logging.captureWarnings(True)
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)
            logging.captureWarnings(False)
            handler.close()
