"""Choosing the backend: a pure function of the matrix and of each backend's verdict."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aligntune_core.algorithms import did_you_mean, lookup
from aligntune_core.errors import (
    BackendUnavailableError,
    NoBackendError,
    UnknownBackendError,
    UnsupportedAlgorithmError,
)
from aligntune_core.matrix import SupportMatrix
from aligntune_core.ours import EXTRAS, install_remedy
from aligntune_core.values import Availability

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A backend that was not taken, and why."""

    backend: str
    reason: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What was chosen. `asked` is the user's word, `note` that of a limited cell."""

    backend: str
    asked: str
    reason: str
    rejected: tuple[Rejected, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        others = "; ".join(f"{r.backend} not taken: {r.reason}" for r in self.rejected)
        text = f"backend {self.backend} ({self.reason})" + (f"; {others}" if others else "")
        return f"{text}; note: {self.note}" if self.note else text


def backend_name(asked: object, known: Iterable[str], disabled: Collection[str] = ()) -> str:
    """The canonical name of an asked backend, `auto` among them.

    Args:
        asked: any spelling, of any type.
        known: the names of what is installed, usable or not; ours are choices even where they are not.
        disabled: those of them that are switched off: they can be asked for, and are not offered.

    Raises:
        UnknownBackendError: nobody has it.
    """
    choices = {AUTO, *known, *EXTRAS}
    found = lookup(asked, sorted(choices))
    if found is None:
        remedy = did_you_mean(asked, choices - set(disabled), "the choices are")
        raise UnknownBackendError("no backend has this name", remedy, field="backend", value=asked)
    return found


def _unsupported(matrix: SupportMatrix, backend: str, what: Mapping[str, Any]) -> UnsupportedAlgorithmError:
    wanted = {k: v for k, v in what.items() if v is not None}
    able = [b for b in matrix.trains(**wanted) if b != backend]
    note = matrix.support(backend, **wanted).note
    remedy = f'use backend="{able[0]}"' if able else "no installed backend trains it; see 'aligntune matrix'"
    problem = f"the backend '{backend}' does not train {_described(wanted)}"
    return UnsupportedAlgorithmError(
        f"{problem} ({note})" if note else problem, remedy, field="algorithm", value=what["algorithm"]
    )


def _described(what: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in what.items() if value is not None)


def _explicit(
    matrix: SupportMatrix, backend: str, asked: str, what: Mapping[str, Any], verdict: Callable[[str], Availability]
) -> Selection:
    if backend not in matrix.supports:
        raise BackendUnavailableError(
            f"the backend '{backend}' is not installed", install_remedy(backend), field="backend", value=asked
        )
    support = matrix.support(backend, **what)
    if support.level == "no":
        raise _unsupported(matrix, backend, what)
    available = verdict(backend)
    if not available.ok:
        raise BackendUnavailableError(available.reason, available.remedy, field="backend", value=asked)
    return Selection(backend, asked, "asked for", note=support.note if support.level == "limited" else "")


def ranking(matrix: SupportMatrix, algorithm: str, task: str | None = None, model_type: str | None = None) -> list[str]:
    """The backends that train this, in the order in which `auto` tries them: level, then preference, then name."""

    def rank(backend: str) -> tuple[bool, int, str]:
        claim = matrix.supports[backend][algorithm]
        return matrix.support(backend, algorithm, task, model_type).level != "full", -claim.preference, backend

    return sorted(matrix.trains(algorithm, task, model_type), key=rank)


def _automatic(
    matrix: SupportMatrix, asked: str, what: Mapping[str, Any], verdict: Callable[[str], Availability]
) -> Selection:
    ranked = ranking(matrix, **what)
    rejected = [Rejected(b, "does not train it") for b in sorted(matrix.supports) if b not in ranked]
    rejected += [Rejected(b, "not installed") for b in sorted(EXTRAS) if b not in matrix.supports]

    for position, backend in enumerate(ranked):
        available = verdict(backend)
        if available.ok and not available.only_asked:
            support = matrix.support(backend, **what)
            rejected += [Rejected(b, f"'{backend}' comes first") for b in ranked[position + 1 :]]
            note = support.note if support.level == "limited" else ""
            return Selection(backend, asked, "chosen by auto", tuple(rejected), note)
        remedy = f"taken only where it is named: backend={backend}" if available.ok else available.remedy
        rejected.append(Rejected(backend, f"{available.reason}; {remedy}"))
    reasons = "; ".join(f"{r.backend}: {r.reason}" for r in rejected)
    remedies = [install_remedy(name) for name in EXTRAS if name not in matrix.supports]
    look = "see 'aligntune diagnose'" if ranked else "see 'aligntune matrix'"
    raise NoBackendError(
        f"no backend can train {_described(what)} here ({reasons})",
        remedies[0] if remedies and not matrix.supports else look,
        field="backend",
        value=asked,
    )


def select(
    matrix: SupportMatrix,
    verdict: Callable[[str], Availability],
    *,
    backend: str,
    algorithm: str,
    task: str | None = None,
    model_type: str | None = None,
) -> Selection:
    """Resolve `backend` for what is to be trained.

    Args:
        matrix: what the installed backends claim.
        verdict: a backend's availability, asked lazily, at most once for each.
        backend: a canonical name, or `auto`: best level first, then preference, then name.
        algorithm, task, model_type: canonical; None means not known yet.

    Raises:
        UnsupportedAlgorithmError: the named backend does not train this.
        BackendUnavailableError: the named backend cannot run here; it is never replaced by another.
        NoBackendError: `auto` found none.
    """
    what = {"algorithm": algorithm, "task": task, "model_type": model_type}
    if backend == AUTO:
        return _automatic(matrix, backend, what, verdict)
    return _explicit(matrix, backend, backend, what, verdict)
