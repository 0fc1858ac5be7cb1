"""The run folder: where it is, whether it may be used, who holds it, and `run.json`.

run.json  metrics.jsonl  samples.jsonl  model/  checkpoint-N/  report.html  log.txt; worker.log of a run in a worker
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aligntune_core.environment import rank
from aligntune_core.errors import ConfigError, StorageError
from aligntune_core.runs.storage import write_json, writing

if TYPE_CHECKING:
    from filelock import BaseFileLock

SCHEMA = 1
RUN, METRICS, SAMPLES = "run.json", "metrics.jsonl", "samples.jsonl"
MODEL, REPORT, LOG = "model", "report.html", "log.txt"
WORKER_LOG = "worker.log"
STAGING, LOCK, CACHES = ".staging", ".lock", ".caches"
_NAMES = {RUN, METRICS, SAMPLES, MODEL, REPORT, LOG, WORKER_LOG, STAGING, CACHES}
_given: set[Path] = set()
"""Default folders that this process has given away; two trainers made in one second must not share one."""


def default_folder(algorithm: str, model: str) -> Path:
    """A new folder under runs/: date, time, algorithm and model."""
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(model).name).strip("-.") or "model"
    base = Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{algorithm}-{slug[:40]}"
    candidates = [base, *(base.with_name(f"{base.name}-{n}") for n in range(2, 1000))]
    chosen = next(path for path in candidates if not path.exists() and path not in _given)
    _given.add(chosen)
    return chosen


def read_run(path: Path) -> dict[str, Any] | None:
    """The content of `run.json`; None where there is no run or its file is broken."""
    try:
        content = json.loads((path / RUN).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _check_place(path: Path) -> None:
    """Refuse a path that cannot become a folder, or cannot be written to; nothing is left behind."""
    existing = next(p for p in (path, *path.parents, Path()) if p.exists() or p.is_symlink())
    if not existing.is_dir():
        what = "a link that leads nowhere" if existing.is_symlink() else "a file, not a folder"
        remedy = "choose a folder that does not exist yet"
        raise ConfigError(f"{existing} is {what}", remedy, field="output_dir", value=str(path))
    try:
        probe = existing / f".aligntune-{os.getpid()}"
        probe.mkdir(exist_ok=True)
        probe.rmdir()
    except OSError as error:
        problem = f"nothing can be written into {existing}: {error.strerror or error}"
        raise StorageError(problem, "choose another output_dir", field="output_dir", value=str(path)) from error


def _take(path: Path) -> BaseFileLock:
    """Hold a folder, or refuse it where another process does. (The library is loaded only where a lock is needed.)"""
    from filelock import FileLock, Timeout

    lock = FileLock(path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        remedy = "wait for it, or choose another folder"
        raise ConfigError("another process is writing to it", remedy, field="output_dir", value=str(path)) from error
    return lock


def check_folder(path: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse a folder that holds another run or anything else that is not ours; nothing is written.

    Raises:
        ConfigError: it is a file, another run's, not empty, or held by another process.
        StorageError: it is not writable.
    """
    if rank() > 0:
        return  # the first process checks, holds and writes the folder for all
    _check_place(path)
    if (path / LOCK).exists():
        _take(path).release()
    left = (LOCK, STAGING, CACHES)  # all that a run leaves which was killed before it began
    if not path.exists() or all(entry.name in left for entry in path.iterdir()):
        return
    if not (path / RUN).exists():
        remedy = "choose a folder that does not exist yet"
        raise ConfigError("the folder is not empty and holds no run", remedy, field="output_dir", value=str(path))
    if not overwrite and not resume:
        remedy = "set resume: true to go on, overwrite: true to replace it, or choose another folder"
        raise ConfigError("the folder holds another run", remedy, field="output_dir", value=str(path))


@contextlib.contextmanager
def leaving_no_trace(path: Path) -> Iterator[None]:
    """Take away again the folders that a library makes in passing: those that were not there before and are empty."""
    missing = [folder for folder in (path / STAGING, path / CACHES, path, *path.parents) if not folder.exists()]
    try:
        yield
    finally:
        for folder in missing if rank() == 0 else ():
            with contextlib.suppress(OSError):  # it is not empty: somebody uses it
                folder.rmdir()


def _is_ours(name: str) -> bool:
    """Whether a run wrote the file or folder of this name; anything else in the folder is the user's."""
    part = name.startswith(".") and name.endswith(".part") and name[1:-5] in _NAMES
    return name in _NAMES or part or re.fullmatch(r"checkpoint-\d+", name) is not None


class RunFolder:
    """A run folder that this process holds; only rank 0 writes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writes = rank() == 0
        self._lock: BaseFileLock | None = None
        self._run: dict[str, Any] = {}

    @property
    def staging(self) -> Path:
        return self.path / STAGING

    def open(self, *, overwrite: bool, goes_on: bool = False) -> None:
        """Create and hold the folder; with `overwrite`, what the old run left is removed.

        Args:
            goes_on: the run that is in the folder is the one that is meant.

        Raises:
            ConfigError: another process holds it, or another run has come into it since the checks.
            StorageError: it cannot be written.
        """
        if not self.writes:
            return
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _take(self.path)
            if overwrite:
                self._clear()
            elif not goes_on and (self.path / RUN).exists():
                self.close()
                remedy = "choose another folder, or make a new trainer with resume: true or overwrite: true"
                value = str(self.path)
                raise ConfigError("another run has come into the folder", remedy, field="output_dir", value=value)
            shutil.rmtree(self.staging, ignore_errors=True)
            self.staging.mkdir()

    def _clear(self) -> None:
        for entry in self.path.iterdir():
            if _is_ours(entry.name):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    def write(self, **changes: Any) -> None:
        """Change fields of `run.json`."""
        self._run |= changes
        if self.writes:
            write_json(self.path / RUN, {"schema": SCHEMA, **self._run})

    def load(self, content: Mapping[str, Any]) -> None:
        """Go on from an earlier `run.json`."""
        self._run = dict(content)

    def drop_staging(self) -> None:
        """Remove what was being written; on a full disk that makes room for the last words."""
        if self.writes:
            shutil.rmtree(self.staging, ignore_errors=True)

    def close(self) -> None:
        """Let the folder go."""
        self.drop_staging()
        if self.writes:
            (self.path / LOCK).unlink(missing_ok=True)  # while it is held: nobody can take it in between
            if self._lock is not None:
                self._lock.release()
