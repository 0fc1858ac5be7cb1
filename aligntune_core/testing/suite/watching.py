"""Listening to a run, interrupting it, and seeing what it changes that is not its own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path

from aligntune_core.values import Callback

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Heard(Callback):
    """What a run says as it goes.

    Args:
        interrupt: send this process Ctrl-C when two fifths of the steps are done: in the middle of an epoch.
    """

    def __init__(self, *, interrupt: bool = False) -> None:
        self.starts: list[tuple[int, int]] = []
        self.steps: list[int] = []
        self._interrupt = interrupt

    def start(self, first: int, steps_planned: int) -> None:
        self.starts.append((first, steps_planned))

    def step(self, step: int) -> None:
        self.steps.append(step)
        if self._interrupt and self.starts and step == max(1, self.starts[-1][1] * 2 // 5):
            signal.raise_signal(signal.SIGINT)


def digest(folder: Path) -> str:
    """One hash over the names and bytes of all files in a folder."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


@contextlib.contextmanager
def python_hears_ctrl_c() -> Iterator[None]:
    """Also in a process that was started in the background, which ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _state(place: Path, ours: Collection[str], given: Path) -> dict[str, object]:
    return {
        "the working directory": os.getcwd(),  # noqa: PTH109 - as a plugin's os.chdir leaves it
        "the handlers of Ctrl-C and SIGTERM": [signal.getsignal(number) for number in SIGNALS],
        "the variables ALIGNTUNE_*": {k: v for k, v in os.environ.items() if k.startswith("ALIGNTUNE_")},
        "files beside the run folder": sorted(p.name for p in place.iterdir() if p.name not in ours),
        "the model or the rows that it was given": digest(given),
    }


@contextlib.contextmanager
def watched(changed: list[str], place: Path, ours: Collection[str], given: Path) -> Iterator[None]:
    """Note what changes meanwhile, and what is printed.

    Args:
        changed: gets a line for each change.
        place: the working directory.
        ours: the run folders in it.
        given: the folder of the model and the rows.
    """
    said, before = io.StringIO(), _state(place, ours, given)
    with contextlib.redirect_stdout(said):
        yield
    after = _state(place, ours, given)
    changed += [f"changed {what}: {before[what]} → {after[what]}" for what in before if before[what] != after[what]]
    if said.getvalue():
        changed.append(f"printed {said.getvalue()[:60]!r} on standard output")
