"""Two ways to train in turns, each in a process of its own: a step of one, then the same step of the other.

So whatever else the machine does is the same for both, and as both draw the same numbers, so is the work; outcomes that
differ end the benchmark. A script that is compared starts itself with `--child KIND` for each side, which is then in
`tell`; the first process waits for each step of a side before the other does the same one.
"""

from __future__ import annotations

import json
import operator
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairs import ratio

Ended = Callable[[], None]
"""What a run calls after each step."""
OURS, PLAIN = "aligntune", "plain"
"""The two sides."""
TOLD = "TOLD"
"""How the lines begin that a run writes for us, among those of the libraries."""


def tell(train: Callable[[Ended], Any]) -> None:
    """One run, which tells the seconds of each step, wall-clock and processor's, and then waits for its turn.

    Args:
        train: trains, calls what it is given after each step, and gives the outcome, which JSON can hold.
    """
    began = time.perf_counter(), time.process_time()

    def ended() -> None:
        nonlocal began
        print(f"\n{TOLD}", json.dumps([time.perf_counter() - began[0], time.process_time() - began[1]]), flush=True)
        if not sys.stdin.readline():
            sys.exit("the other end is gone")
        began = time.perf_counter(), time.process_time()

    outcome = train(ended)
    print(f"\n{TOLD}", json.dumps(outcome), flush=True)


def their_clock(ended: Ended) -> Any:
    """A callback of transformers' Trainer and TRL's."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ended()

    return Clock()


def our_clock(ended: Ended) -> Any:
    """A callback of `Trainer.listen`."""
    from aligntune_core import Callback

    class Clock(Callback):
        def step(self, step: int) -> None:
            ended()

    return Clock()


@dataclass(frozen=True)
class Contest:
    """What is run in turns.

    Attributes:
        name: of the job, in the table.
        command: starts a side, with `--child` and its kind after it.
        folder: keeps what the libraries write to stderr.
        steps: of each side.
        same: whether two outcomes are of the same training.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    steps: int
    same: Callable[[Any, Any], bool] = operator.eq


class Side:
    """A run in a process of its own, step by step."""

    def __init__(self, contest: Contest, kind: str) -> None:
        # Memory that is given back and asked for again in each step costs some processes six per cent, by chance.
        kept = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
        self._errors = (contest.folder / f"{kind}.log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [*contest.command, "--child", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **kept},
        )
        self.first: float = self._told()[0]
        self.steps: list[list[float]] = []

    def _told(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(TOLD):
                return json.loads(line.removeprefix(TOLD))
        self._errors.seek(0)
        sys.exit(f"it ended before its time: {self._errors.read()[-2000:]}")

    def _go(self) -> Any:
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return self._told()

    def step(self) -> None:
        """Let it do one step."""
        self.steps.append(self._go())

    def outcome(self) -> Any:
        """Let it end."""
        outcome = self._go()
        self._process.communicate()
        self._errors.close()
        return outcome


def pair_of(contest: Contest, order: tuple[str, str]) -> tuple[dict[str, tuple[float, float]], tuple[Any, Any]]:
    """Both sides in turns: what each took, ours first, by what was measured; and their outcomes."""
    sides = {kind: Side(contest, kind) for kind in order}
    for number in range(1, contest.steps):
        for kind in order if number % 2 else reversed(order):
            sides[kind].step()
    ours, theirs = sides[OURS], sides[PLAIN]
    if not contest.same(mine := ours.outcome(), other := theirs.outcome()):
        sys.exit(f"{contest.name}: the two do not train the same: {mine} and {other}")
    found = {"first": (ours.first, theirs.first)}
    for what, column in (("step", 0), ("cpu", 1)):
        times = [tuple(step[column] for step in side.steps) for side in (ours, theirs)]
        # The median step of theirs, and as many times it as ours takes in the median: both do the same in each step.
        usual = statistics.median(times[1])
        found[what] = usual * statistics.median(a / b for a, b in zip(*times, strict=True)), usual
    return found, (mine, other)


WHAT = {"step": "a step", "cpu": "a step, processor time", "first": "start to the end of the first step"}


def print_head(theirs: str, pairs: int) -> None:
    """The head of the table; `theirs` is what the other side is."""
    counted = f"ratio: least, median, greatest of {pairs} pairs"
    print(f"| | AlignTune, median | {theirs}, median | {counted} |\n|---|---|---|---|")


def compare(contest: Contest, pairs: int, measured: Iterable[str] = WHAT) -> tuple[Any, Any]:
    """Some pairs, as rows of the table, one for each thing measured; the outcomes of the last one, ours first."""
    orders = [(OURS, PLAIN) if pair % 2 else (PLAIN, OURS) for pair in range(pairs + 1)]
    found, outcomes = zip(*[pair_of(contest, order) for order in orders][1:], strict=True)  # the first warms the cache
    for what in measured:
        ours, theirs = zip(*(pair[what] for pair in found), strict=True)
        low, middle, high = ratio(ours, theirs)
        unit = f"{statistics.median(ours):.4f} s | {statistics.median(theirs):.4f} s"
        print(f"| {contest.name}: {WHAT[what]} | {unit} | {low:.3f}, **{middle:.3f}**, {high:.3f} |")
        sys.stdout.flush()
    last: tuple[Any, Any] = outcomes[-1]
    return last
