"""What core does with what it hears from a training loop: rows, checkpoints, samples, and the wish to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from aligntune_core.errors import DivergedError
from aligntune_core.runs.checkpoints import commit, rotate
from aligntune_core.runs.folder import METRICS, SAMPLES, STAGING, RunFolder
from aligntune_core.runs.metrics import append
from aligntune_core.values import Callback

FATAL = ("loss", "grad_norm", "reward")
"""Numbers without which a run is pointless once one of them is not finite."""
SPLITS = ("train", "eval")
COLUMNS = ("step", "epoch", "time", "split", "samples")
LONGEST_SAMPLE = 20_000
SHORT_SAMPLE = 500
"""Characters of a sample in a row of metrics; samples.jsonl has more of it."""


def _check(holds: bool, promise: str) -> None:
    """Refuse what a training loop says wrongly; the error leaves the loop, so it says whose it is."""
    if not holds:
        raise TypeError(promise)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Recorder:
    """The `RunEvents` of a real run. Attributes hold what the result is made of."""

    def __init__(
        self,
        folder: RunFolder,
        callbacks: Sequence[Callback],
        *,
        keep: int,
        resume_from: Path | None,
        first_step: int,
        max_steps: int | None = None,
    ) -> None:
        self.resume_from = resume_from
        self.steps_planned = 0
        self.steps_done = first_step
        self.rows: list[dict[str, Any]] = []
        self.checkpoints: list[int] = []
        self.began: float | None = None
        self.seconds = 0.0
        self.stop_signal: int | None = None
        self._folder, self._callbacks, self._keep = folder, callbacks, keep
        self._max_steps = max_steps
        self._samples: list[dict[str, str]] = []

    @property
    def stopping(self) -> bool:
        return self.stop_signal is not None

    def start(self, steps_planned: int) -> None:
        _check(_whole(steps_planned) and steps_planned > 0, "start() takes the number of steps, at least 1")
        asked = self._max_steps
        _check(asked in (None, steps_planned), f"max_steps is {asked}, and start() was given {steps_planned}")
        self.steps_planned = steps_planned
        self.began = time.monotonic()
        self._folder.write(steps_planned=steps_planned)
        for callback in self._callbacks:
            callback.start(self.steps_done, steps_planned)

    def step(self, step: int) -> None:
        in_order = _whole(step) and self.steps_done < step <= self.steps_planned
        _check(in_order, f"step() takes the steps in their order: after {self.steps_done} came {step!r:.60}")
        self.steps_done = step
        if self.began is not None:
            self.seconds = time.monotonic() - self.began
        for callback in self._callbacks:
            callback.step(step)

    def metrics(self, step: int, values: Mapping[str, float], *, epoch: float, split: str = "train") -> None:
        """Write one row; a number that is not finite ends the run.

        Raises:
            DivergedError: the row is written first, with null in the place of that number.
        """
        place = _whole(step) and isinstance(epoch, Real) and math.isfinite(epoch) and split in SPLITS
        _check(place, "metrics() takes a step, a number as epoch, and train or eval")
        for name, value in values.items():
            number = isinstance(value, Real) and not isinstance(value, bool)
            named = isinstance(name, str) and name not in COLUMNS
            _check(
                number and named, f"metrics() takes numbers by name, and {name!r:.60} is a {type(value).__name__:.60}"
            )
        values = {name: int(value) if isinstance(value, int) else float(value) for name, value in values.items()}
        bad = sorted(name for name, value in values.items() if not math.isfinite(value))
        row = {"step": step, "epoch": round(epoch, 6), "time": round(time.time(), 3), "split": split}
        row |= {name: None if name in bad else value for name, value in values.items()}
        if self._samples:
            row["samples"], self._samples = self._samples, []
        self.rows.append(row)
        if self._folder.writes:
            append(self._folder.path / METRICS, row)
        for callback in self._callbacks:
            callback.row(row)
        for name in (n for n in FATAL if n in bad):
            raise DivergedError.at(step, name, values[name])

    def _is_ours(self, folder: Path) -> bool:
        """Whether a folder may be moved: what lies elsewhere is the user's."""
        inside = folder.resolve().is_relative_to((self._folder.path / STAGING).resolve())
        return inside and folder.is_dir() and any(folder.iterdir())

    def checkpoint(self, step: int, folder: Path) -> None:
        """Take over a complete checkpoint and drop the oldest.

        Raises:
            StorageError: it could not be kept; the earlier ones are intact.
        """
        done = _whole(step) and 0 < step <= self.steps_done
        _check(done, f"checkpoint() takes a step that is done, not {step!r:.60}")
        _check(isinstance(folder, Path), "checkpoint() takes a Path")
        if self._folder.writes:
            _check(self._is_ours(folder), f"checkpoint() takes a folder with files in work_dir, not {folder.name:.60}")
            commit(folder, self._folder.path, step)
            rotate(self._folder.path, self._keep, step)
            self._folder.write(steps_done=step)
        self.checkpoints.append(step)

    def sample(self, step: int, prompt: str, completion: str) -> None:
        """Keep a sample generation for the report and, shorter, for the next row of metrics."""
        _check(isinstance(prompt, str) and isinstance(completion, str), "sample() takes two texts")
        if self._folder.writes:
            texts = {"prompt": prompt[:LONGEST_SAMPLE], "completion": completion[:LONGEST_SAMPLE]}
            append(self._folder.path / SAMPLES, {"step": step, **texts})
        self._samples.append({"prompt": prompt[:SHORT_SAMPLE], "completion": completion[:SHORT_SAMPLE]})

    def end(self, status: str) -> None:
        """The run is over: finished, failed or interrupted."""
        for callback in self._callbacks:
            callback.end(status)

    def finish(self) -> None:
        """The loop is over, well or not."""
        for callback in self._callbacks:
            callback.stop()
