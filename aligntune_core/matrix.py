"""The support matrix: a value computed from what the installed plugins say, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from aligntune_core.algorithms import ALGORITHMS, Algorithm
from aligntune_core.values import AlgorithmSupport, Availability, Level, Support

NOT_CLAIMED = Support("no", "this backend does not claim it")
_ORDER: tuple[Level, ...] = ("full", "limited", "no")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One backend × algorithm × task × model type."""

    backend: str
    algorithm: str
    task: str
    model_type: str
    level: Level
    note: str
    available: bool
    reason: str


@dataclass(frozen=True, slots=True)
class SupportMatrix:
    """Backend → algorithm → what it supports, with each backend's verdict on this machine."""

    supports: Mapping[str, Mapping[str, AlgorithmSupport]]
    availability: Mapping[str, Availability]

    @property
    def cells(self) -> list[dict[str, object]]:
        """Every claimed cell, sorted, in the shape that `aligntune matrix --json` prints."""
        found = [
            Cell(
                backend=backend,
                algorithm=name,
                task=task,
                model_type=model_type,
                level=support.level,
                note=support.note,
                available=self.availability[backend].ok,
                reason=self.availability[backend].reason,
            )
            for backend, algorithms in self.supports.items()
            for name, claim in algorithms.items()
            for (task, model_type), support in claim.cells.items()
        ]
        return [asdict(c) for c in sorted(found, key=lambda c: (c.backend, c.algorithm, c.task, c.model_type))]

    @property
    def algorithms(self) -> list[str]:
        """Known algorithms in the documents' order, then those that plugins bring."""
        brought = {name for algorithms in self.supports.values() for name in algorithms}
        return [*ALGORITHMS, *sorted(brought - set(ALGORITHMS))]

    def about(self, algorithm: str) -> Algorithm:
        """What is known of an algorithm: core's entry, else what the first plugin that brings it says."""
        if algorithm in ALGORITHMS:
            return ALGORITHMS[algorithm]
        told = [claims[algorithm].about for _, claims in sorted(self.supports.items()) if algorithm in claims]
        empty = Algorithm(name=algorithm, title=algorithm, summary="", paper="")
        return next((about for about in told if about is not None), empty)

    def support(self, backend: str, algorithm: str, task: str | None = None, model_type: str | None = None) -> Support:
        """The best cell that fits; None for `task` or `model_type` means any."""
        claim = self.supports.get(backend, {}).get(algorithm)
        fitting = [
            support
            for (cell_task, cell_model), support in (claim.cells.items() if claim else ())
            if task in (None, cell_task) and model_type in (None, cell_model)
        ]
        return min(fitting, key=lambda s: _ORDER.index(s.level), default=NOT_CLAIMED)

    def trains(self, algorithm: str, task: str | None = None, model_type: str | None = None) -> list[str]:
        """The backends that train this, fully or in part, sorted."""
        return [b for b in sorted(self.supports) if self.support(b, algorithm, task, model_type).level != "no"]

    def projection(self, axis: str) -> tuple[list[str], list[tuple[str, list[Support]]]]:
        """One of the documents' tables: `axis` is algorithm, model_type or task; columns are the backends.

        A row takes its best cell over the other axes; the model-type and task tables are those of SFT.
        """
        backends = sorted(self.supports)
        if axis == "algorithm":
            return backends, [(name, [self.support(b, name) for b in backends]) for name in self.algorithms]
        from aligntune_core.values import MODEL_TYPES, TASKS

        if axis == "task":
            return backends, [(task, [self.support(b, "sft", task) for b in backends]) for task in TASKS]
        return backends, [(kind, [self.support(b, "sft", None, kind) for b in backends]) for kind in MODEL_TYPES]
