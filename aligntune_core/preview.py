"""Rows as the model sees them, and what is to be known of all of them, before anything is trained or written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from aligntune_core.checks import layers_of, selector_of
from aligntune_core.config import Layer
from aligntune_core.errors import BackendUnavailableError
from aligntune_core.factory import make_plan, request_of
from aligntune_core.installed import default_registry
from aligntune_core.plan import Plan
from aligntune_core.selector import AUTO
from aligntune_core.values import Preview, RowPreview, RowTokens

IGNORED = -100
LOOKED_AT = 1000
"""Rows that the numbers are of, unless all are asked for."""
BATCH = 100
_NO_RUN: Mapping[str, Any] = {"output_dir": None, "overwrite": None, "resume": None, "report_to": None}
"""What says where a run goes: nothing of that matters where none is begun."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as people read it; the text is empty where a character ends only with a later token."""

    id: int
    text: str
    trained: bool
    special: bool


@dataclass(slots=True)
class Counts:
    """What is counted over rows. A preference has two parts, and each of them begins and ends for itself.

    Attributes:
        rows: how many were looked at.
        tokens, trained: of all their parts.
        longest: tokens of the longest part.
        cut, left_out, untrained: rows that are cut, that the run trains without, in which nothing is trained.
        labelled: rows of which labels are learnt, and no token.
        parts: how many there are; `whole` of them are trained to their end.
        begun: by how many tokens that begin a sequence a part starts → parts.
        ends: the last trained token of each part that is trained to its end, where it ends something → parts.
        unended: such parts whose last trained token ends nothing.
    """

    rows: int = 0
    tokens: int = 0
    trained: int = 0
    longest: int = 0
    cut: int = 0
    left_out: int = 0
    untrained: int = 0
    labelled: int = 0
    parts: int = 0
    whole: int = 0
    begun: Counter[int] = field(default_factory=Counter)
    ends: Counter[int] = field(default_factory=Counter)
    unended: int = 0

    @property
    def share(self) -> float:
        """The share of tokens that are trained."""
        return self.trained / self.tokens if self.tokens else 0.0

    def add(self, row: RowPreview, preview: Preview) -> None:
        """Count one row."""
        trained = [[token for token, label in labelled(part) if label != IGNORED] for part in row.parts.values()]
        self.rows += 1
        self.cut += row.cut
        self.left_out += row.left_out
        self.labelled += bool(row.label)
        self.untrained += not (any(trained) or row.label)
        for part, learnt in zip(row.parts.values(), trained, strict=True):
            self.parts += 1
            self.tokens += len(part.input_ids)
            self.trained += len(learnt)
            self.longest = max(self.longest, len(part.input_ids))
            if preview.bos is not None:
                self.begun[_leading(part, preview.bos)] += 1
            if learnt and not row.cut and not row.label:
                self._end(learnt, preview)

    def _end(self, learnt: Sequence[int], preview: Preview) -> None:
        """Look at the last trained token; a template may put white space after the end of a turn."""
        self.whole += 1
        last = next((t for t in reversed(learnt) if t in preview.ends or preview.texts([t])[0].strip()), learnt[-1])
        if last in preview.ends:
            self.ends[last] += 1
        else:
            self.unended += 1


def labelled(part: RowTokens) -> Iterator[tuple[int, int]]:
    """Each token with its label."""
    return zip(part.input_ids, part.labels, strict=True)


def _leading(part: RowTokens, bos: int) -> int:
    return next((n for n, token in enumerate(part.input_ids) if token != bos), len(part.input_ids))


@dataclass(frozen=True, slots=True)
class Shown:
    """What a preview shows.

    Attributes:
        plan: the run that would be.
        preview: the backend's.
        rows: the first rows.
        counts: over the rows that were looked at.
        there_are: how many rows the run has; None where they are streamed.
    """

    plan: Plan
    preview: Preview
    rows: tuple[RowPreview, ...]
    counts: Counts
    there_are: int | None

    @property
    def longest(self) -> int | None:
        """Tokens that are read in one go at most; None: no setting says it."""
        return self.preview.longest or getattr(self.plan.config, "max_seq_length", None)

    def tokens(self, part: RowTokens) -> list[Token]:
        """A part of a row as people read it."""
        texts = self.preview.texts(list(part.input_ids))
        return [
            Token(token, text, label != IGNORED, token in self.preview.special)
            for (token, label), text in zip(labelled(part), texts, strict=True)
        ]


def look(plan: Plan, preview: Preview, shown: int, most: int | None) -> Shown:
    """Look at the training rows of a plan.

    Args:
        plan: the run that would be.
        preview: the backend's.
        shown: how many rows are kept to be shown.
        most: how many rows are looked at beyond those; None: all.
    """
    rows, counts, kept = plan.rows.train, Counts(), list[RowPreview]()
    left = islice(iter(rows), None if most is None else max(most, shown))
    while batch := list(islice(left, BATCH)):
        for row in preview.rows(batch):
            counts.add(row, preview)
            if len(kept) < shown:
                kept.append(row)
    return Shown(plan, preview, tuple(kept), counts, len(rows) if hasattr(rows, "__len__") else None)


def show(
    algorithm: object,
    backend: object,
    config: Path | Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    *,
    shown: int = 3,
    most: int | None = LOOKED_AT,
) -> Shown:
    """Check what a run would check, but for its folder, and look at its rows; nothing is written.

    Args:
        algorithm, backend, config: as in `get_trainer`.
        settings: settings by name; they win over `config`.
        shown: how many rows are shown.
        most: how many rows are looked at; None: all.

    Raises:
        BackendUnavailableError: the backend has no preview.
        AlignTuneError: as in `get_trainer`.
    """
    registry = default_registry()
    layers = [*layers_of(config, settings), Layer(dict(_NO_RUN))]
    plan = make_plan(
        selector_of(layers, "algorithm", algorithm, None),
        selector_of(layers, "backend", backend, AUTO),
        layers,
        registry=registry,
    )
    chosen = registry.backends[plan.selection.backend]
    preview = chosen.build_preview(request_of(plan))
    if preview is None:
        problem = f"the plugin ({chosen.entry.origin}) has no hook build_preview, so its rows cannot be shown"
        remedy = "preview with another backend; training is not affected"
        raise BackendUnavailableError(problem, remedy, field="backend", value=chosen.name)
    return look(plan, preview, shown, most)
