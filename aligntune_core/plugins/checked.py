"""A backend's trainer and preview behind the border: what they give is checked; what they raise says whose it was."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aligntune_core.errors import PluginContractError, first_line
from aligntune_core.values import BackendTrainer, Preview, RowPreview, RunEvents

Blamed = Callable[[str], contextlib.AbstractContextManager[None]]


class CheckedTrainer:
    """A `BackendTrainer` that can be relied on.

    Args:
        trainer: what the plugin's `build_trainer` gave.
        blamed: `Backend.blamed`.
        broke: makes the error for a broken promise.
    """

    def __init__(self, trainer: BackendTrainer, blamed: Blamed, broke: Callable[[str], PluginContractError]) -> None:
        self._trainer, self._blamed, self._broke = trainer, blamed, broke

    @property
    def resolved(self) -> Mapping[str, Any]:
        with self._blamed("resolved"):
            resolved = self._trainer.resolved
        if not isinstance(resolved, Mapping) or not all(isinstance(name, str) for name in resolved):
            raise self._broke(f"resolved is {type(resolved).__name__}, not a mapping of names to values")
        try:
            json.dumps(dict(resolved), default=str)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._broke(f"resolved cannot be written as JSON: {first_line(error)}") from error
        return resolved

    @property
    def native(self) -> Any:
        with self._blamed("native"):
            return self._trainer.native

    def train(self, events: RunEvents) -> None:
        with self._blamed("train"):
            self._trainer.train(events)

    def evaluate(self) -> Mapping[str, float]:
        with self._blamed("evaluate"):
            found = self._trainer.evaluate()
        if not isinstance(found, Mapping):
            raise self._broke(f"evaluate() gave {type(found).__name__}, not a mapping of names to numbers")
        for name, value in found.items():
            if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int | float):
                raise self._broke(f"evaluate() gave {str(name)[:60]!r}: {type(value).__name__}, which is no number")
        try:
            return {name: float(value) for name, value in found.items()}
        except OverflowError as error:
            raise self._broke("evaluate() gave a number that is too large") from error

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        with self._blamed("predict"):
            found = self._trainer.predict(inputs)
        if not isinstance(found, list) or len(found) != len(inputs):
            count = f"{len(found)} answers" if isinstance(found, list) else type(found).__name__
            raise self._broke(f"predict() gave {count} for {len(inputs)} inputs")
        return found

    def save(self, path: Path) -> None:
        with self._blamed("save"):
            self._trainer.save(path)
        if not path.is_dir() or not any(path.iterdir()):
            raise self._broke("save() wrote nothing")

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        with self._blamed("preview"):
            return self._trainer.preview(rows)

    def close(self) -> None:
        """Let go of the model, where the plugin has a way to."""
        close = getattr(self._trainer, "close", None)
        if callable(close):
            with self._blamed("close"):
                close()


def _broken_row(row: object) -> str:
    """What is wrong with one entry of a preview; empty where nothing is."""
    if not isinstance(row, RowPreview):
        return f"a {type(row).__name__}, which is no RowPreview"
    for name, part in row.parts.items():
        if len(part.input_ids) != len(part.labels):
            return f"a part '{name}' of {len(part.input_ids)} tokens and {len(part.labels)} labels"
    return "" if row.parts else "a row without parts"


def checked_preview(preview: Preview, blamed: Blamed, broke: Callable[[str], PluginContractError]) -> Preview:
    """A preview that can be relied on.

    Args:
        preview: what the plugin's `build_preview` gave.
        blamed: `Backend.blamed`.
        broke: makes the error for a broken promise.
    """

    def rows(given: Sequence[Mapping[str, Any]]) -> list[RowPreview]:
        with blamed("build_preview's rows"):
            found = preview.rows(given)
        if len(found) != len(given):
            raise broke(f"a preview has {len(found)} entries for {len(given)} rows")
        for row in found:
            if problem := _broken_row(row):
                raise broke(f"a preview has {problem}")
        return found

    def texts(ids: Sequence[int]) -> list[str]:
        with blamed("build_preview's texts"):
            found = preview.texts(ids)
        if len(found) != len(ids):
            raise broke(f"a preview has {len(found)} texts for {len(ids)} tokens")
        return found

    return replace(preview, rows=rows, texts=texts)
