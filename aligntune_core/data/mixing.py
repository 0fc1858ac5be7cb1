"""Several data sets as one: one after the other, or from each as many as its weight says, no row twice."""

from __future__ import annotations

import itertools
import logging
import math
import operator
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from aligntune_core.data.formats import is_chat, task_of
from aligntune_core.data.numbering import Numbering
from aligntune_core.data.reading import Columns, Reading
from aligntune_core.errors import DataError

log = logging.getLogger("aligntune")

_KINDS = ("used", "rewards", "unused")


@dataclass(frozen=True, slots=True)
class Part:
    """One data set, read and shaped.

    Attributes:
        name: as it was named, or `in memory`.
        reading: how its rows were read.
        rows: its shaped rows.
        shape: their shape.
        columns: what was made of its columns.
        names: of its labels, where the data set has them itself and its rows say their numbers.
    """

    name: str
    reading: Reading
    rows: list[dict[str, Any]]
    shape: str
    columns: Columns = Columns()  # noqa: RUF009 - frozen
    names: tuple[str, ...] = ()

    def numbered(self, numbering: Numbering, field: str) -> Part:
        """The same, with the numbers of its labels.

        Raises:
            DataError: a label has none; `field` is the setting that named the data set.
        """
        return replace(self, rows=numbering.apply(self.rows, field, self.name))


def check_alike(parts: Sequence[Part], field: str = "dataset_name") -> None:
    """Refuse data sets whose rows have different shapes.

    Raises:
        DataError: both are named, with what their rows are.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.shape != first.shape:
            problem = f"'{part.name}' is read as {part.reading.format.name} ({part.shape} rows)"
            problem += f", '{first.name}' as {first.reading.format.name} ({first.shape} rows)"
            remedy = "give all as conversations, or all as plain text; column_mapping may rename columns"
            raise DataError(problem, remedy, field=field)
    check_names(parts, field)


def check_names(parts: Sequence[Part], field: str) -> None:
    """Refuse data sets in which a number is another label than in the first.

    Raises:
        DataError: both are named, with what their labels are called.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.names != first.names:
            said, meant = (", ".join(one.names[:8]) or "not at all" for one in (part, first))
            problem = f"'{part.name}' names its labels {said}; '{first.name}' {meant}"
            raise DataError(problem, "give data sets whose labels have the same names", field=field)


def joint_columns(parts: Sequence[Part]) -> Columns:
    """What was made of the columns of all parts."""
    found = [part.columns for part in parts]
    used, rewards, unused = (
        tuple(dict.fromkeys(name for one in found for name in getattr(one, kind))) for kind in _KINDS
    )
    return Columns(", ".join(dict.fromkeys(one.format for one in found)), used, rewards, unused)


def joint_task(parts: Sequence[Part]) -> str:
    """What the rows of all parts speak of."""
    tasks = {task_of(part.reading.format, part.shape) for part in parts}
    return tasks.pop() if len(tasks) == 1 else "chat_completion" if is_chat(parts[0].shape) else "text_generation"


def join(parts: Sequence[Part], weights: Sequence[float], seed: int, most: int | None = None) -> list[dict[str, Any]]:
    """The rows of all parts in the order in which they are taken.

    Args:
        parts: of one shape.
        weights: how often each is drawn from, against the others; empty: one part after the other. At every length the
            shares are those of the weights, as closely as whole rows allow. The end is reached when one part has no
            row left.
        seed: decides which part comes first where several may.
        most: take the first so many.
    """
    order = _drawn(parts, weights, seed) if weights else range(sum(len(part.rows) for part in parts))
    rows = [row for part in parts for row in part.rows]
    taken = list(order)[:most]
    if len(parts) > 1:
        _tell_unused(parts, taken)
    return [rows[number] for number in taken]


def _drawn(parts: Sequence[Part], weights: Sequence[float], seed: int) -> list[int]:
    """The numbers of rows, each of the part that is furthest behind its share; of several such the seed decides."""
    exact = [Fraction(str(weight)) for weight in weights]
    scale = math.lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * scale) for weight in exact]
    total, draw = sum(whole), random.Random(seed)  # noqa: S311 - no secret
    sizes = [len(part.rows) for part in parts]
    starts = list(itertools.accumulate(sizes, initial=0))
    taken, order = [0] * len(parts), list[int]()
    full = min(size * total // weight for size, weight in zip(sizes, whole, strict=True))
    for length in itertools.count(1):
        if length > full and any(map(operator.eq, taken, sizes)):
            break
        behind = [weight * length - total * count for weight, count in zip(whole, taken, strict=True)]
        most = max(behind)
        part = behind.index(most)
        if behind.count(most) > 1:
            part = draw.choice([number for number, missing in enumerate(behind) if missing == most])
        order.append(starts[part] + taken[part])
        taken[part] += 1
    return order


def _tell_unused(parts: Sequence[Part], taken: Sequence[int]) -> None:
    """How many rows of each part are used; a part of which rows are left over is told as a warning."""
    start = 0
    for part in parts:
        stop = start + len(part.rows)
        used = sum(start <= number < stop for number in taken)
        level = logging.INFO if used == len(part.rows) else logging.WARNING
        log.log(level, "%s: %d of %d rows are used", part.name, used, len(part.rows))
        start = stop
