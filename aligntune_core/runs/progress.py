"""Showing a run as it goes: a bar on a terminal, plain lines elsewhere, both on standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from aligntune_core.values import Callback

SHOWN = ("loss", "reward", "learning_rate", "grad_norm", "tokens_per_second")
MOST = 6
"""Numbers of an evaluation that are shown beside its loss and reward."""
_MEASURES = ("rewards/accuracies",)
"""Names with a / are parts of another number, but for these."""
_DETAILS = frozenset(
    {
        *(
            "step",
            "epoch",
            "time",
            "num_tokens",
            "entropy",
            "mean_token_accuracy",
            "reward_std",
            "frac_reward_zero_std",
        ),
        *("min_reward", "max_reward", "non_score_reward", "values_mean", "returns_mean", "explained_variance"),
    }
)
"""What an evaluation counts on its way, and what does not say how good the model is."""


def _number(name: str, value: float) -> str:
    if name == "tokens_per_second":
        return f"{value:,.0f} tokens/s"
    return f"{name} {value:.4g}"


def measured(row: Mapping[str, Any]) -> str:
    """What an evaluation found: its loss or reward, then what else says how good the model is, rounded."""
    own = [name for name in row if name not in (*SHOWN, *_DETAILS) and ("/" not in name or name in _MEASURES)]
    numbers = {name: row.get(name) for name in (*SHOWN, *own)}
    return "  ".join([_number(name, n) for name, n in numbers.items() if isinstance(n, int | float)][: MOST + 1])


def line_of(row: Mapping[str, Any], steps_planned: int) -> str:
    """A row of metrics as one line of text."""
    place = f"step {row['step']}/{steps_planned}  "
    if row["split"] == "eval":
        return f"eval {place}{measured(row)}"
    return place + "  ".join(_number(name, row[name]) for name in SHOWN if isinstance(row.get(name), int | float))


class PlainProgress(Callback):
    """One line a logging window: for pipes, files and notebooks."""

    def __init__(self) -> None:
        self._planned = 0

    def start(self, first: int, steps_planned: int) -> None:
        self._planned = steps_planned

    def row(self, row: Mapping[str, Any]) -> None:
        print(line_of(row, self._planned), file=sys.stderr, flush=True)


class RichProgress(Callback):
    """A bar with loss, tokens a second and time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("[bold]training"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=Console(stderr=True),
            expand=True,
        )
        self._task = self._bar.add_task("training", total=None, numbers="")

    def start(self, first: int, steps_planned: int) -> None:
        self._bar.reset(self._task, total=steps_planned, completed=first)
        self._bar.start()

    def step(self, step: int) -> None:
        self._bar.update(self._task, completed=step)

    def row(self, row: Mapping[str, Any]) -> None:
        if row["split"] == "eval":
            self._bar.console.print(f"eval at step {row['step']}: {measured(row)}", highlight=False, markup=False)
            return
        shown = ("loss", "tokens_per_second")
        numbers = [_number(name, row[name]) for name in shown if isinstance(row.get(name), int | float)]
        self._bar.update(self._task, numbers="  ".join(numbers))

    def stop(self) -> None:
        self._bar.stop()


def default_progress() -> Callback:
    """What fits standard error."""
    return RichProgress() if sys.stderr.isatty() else PlainProgress()
