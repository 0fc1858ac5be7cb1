"""What a backend gives, behind the border: it is checked, and what it raises says whose it is."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aligntune_core.errors import BackendUnavailableError, PluginContractError, first_line
from aligntune_core.memory import peak
from aligntune_core.saved_values import MergeReport, OpenModel, Sampling
from aligntune_core.values import BackendTrainer, Preview, RowPreview, RunEvents

Blamed = Callable[[str], contextlib.AbstractContextManager[None]]
Broke = Callable[[str], PluginContractError]

_NO_STREAM = "use 'aligntune generate'"


def _answers(found: Any, inputs: Sequence[Any], broke: Broke) -> list[Any]:
    """One answer for each input, or the error for a broken promise."""
    if not isinstance(found, list) or len(found) != len(inputs):
        count = f"{len(found)} answers" if isinstance(found, list) else type(found).__name__
        raise broke(f"predict() gave {count} for {len(inputs)} inputs")
    return found


class CheckedTrainer:
    """A `BackendTrainer` that can be relied on.

    Args:
        trainer: what the plugin's `build_trainer` gave.
        blamed: `Backend.blamed`.
        broke: makes the error for a broken promise.
    """

    def __init__(self, trainer: BackendTrainer, blamed: Blamed, broke: Broke) -> None:
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
        return _answers(found, inputs, self._broke)

    def save(self, path: Path) -> None:
        with self._blamed("save"):
            self._trainer.save(path)
        if not path.is_dir() or not any(path.iterdir()):
            raise self._broke("save() wrote nothing")

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        with self._blamed("preview"):
            return self._trainer.preview(rows)

    def peak(self) -> Mapping[str, int | None]:
        """The most memory that the process which trains has used."""
        elsewhere = getattr(self._trainer, "peak", None)
        found: Mapping[str, int | None] = elsewhere() if callable(elsewhere) else peak()
        return found

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


def checked_preview(preview: Preview, blamed: Blamed, broke: Broke) -> Preview:
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


class CheckedModel:
    """An `OpenModel` that can be relied on.

    Args:
        model: what the plugin's `open_model` gave.
        backend: the backend's name.
        blamed: `Backend.blamed`.
        broke: makes the error for a broken promise.
    """

    def __init__(self, model: OpenModel, backend: str, blamed: Blamed, broke: Broke) -> None:
        self._model, self.backend, self._blamed, self._broke = model, backend, blamed, broke

    def predict(self, inputs: Sequence[Any], sampling: Sampling) -> list[Any]:
        with self._blamed("predict"):
            found = self._model.predict(inputs, sampling)
        return _answers(found, inputs, self._broke)

    def stream(self, messages: Sequence[Mapping[str, str]], sampling: Sampling) -> Generator[str, None, None]:
        """The answer to a conversation, piece by piece.

        Raises:
            BackendUnavailableError: the backend streams no answers.
        """
        with contextlib.closing(self._iterator(messages, sampling)) as pieces:
            while True:
                with self._blamed("stream"):
                    piece = next(pieces, None)
                if piece is None:
                    return
                if not isinstance(piece, str):
                    raise self._broke(f"stream() gave {type(piece).__name__}, not text")
                yield piece

    def check_streams(self) -> None:
        """Refuse a model that streams no answers.

        Raises:
            BackendUnavailableError: it has no `stream`.
        """
        self._optional("stream", _NO_STREAM)

    def _iterator(self, messages: Sequence[Mapping[str, str]], sampling: Sampling) -> Any:
        stream = self._optional("stream", _NO_STREAM)
        with self._blamed("stream"):
            pieces = stream(messages, sampling)
        if not isinstance(pieces, Iterator) or not hasattr(pieces, "close"):
            raise self._broke(f"stream() gave {type(pieces).__name__}, not a generator")
        return pieces

    def merge(self, path: Path, dtype: str | None) -> MergeReport:
        """Write the full model to `path`.

        Raises:
            BackendUnavailableError: the backend merges nothing.
        """
        merge = self._optional("merge", "export the adapter without --merge")
        with self._blamed("merge"):
            report = merge(path, dtype)
        if not isinstance(report, MergeReport):
            raise self._broke(f"merge() gave {type(report).__name__}, not a MergeReport")
        if not path.is_dir() or not any(path.iterdir()):
            raise self._broke("merge() wrote nothing")
        if not math.isfinite(report.difference) or report.difference > report.tolerance:
            raise self._broke(f"merge() told a difference of {report.difference:g}, above its own tolerance")
        return report

    def _optional(self, name: str, remedy: str) -> Callable[..., Any]:
        found = getattr(self._model, name, None)
        if not callable(found):
            problem = f"the backend '{self.backend}' has no {name}() for this kind of model"
            raise BackendUnavailableError(problem, remedy, field="backend", value=self.backend)
        method: Callable[..., Any] = found
        return method

    def close(self) -> None:
        """Let go of the model, where the plugin has a way to."""
        close = getattr(self._model, "close", None)
        if callable(close):
            with self._blamed("close"):
                close()
