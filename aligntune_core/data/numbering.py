"""How the labels of a data set become numbers, and what those that a checkpoint has already mean.

A label that is a name of the checkpoint's labels is that one, whatever its digits say. Only where no label of the rows
is such a name may whole numbers be the numbers of the names.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aligntune_core.data.labelled import NO_LABEL, Label
from aligntune_core.errors import DataError
from aligntune_core.values import Labels

log = logging.getLogger("aligntune")

MANY = 20
"""Whole numbers from which on a label of its own for every other row looks like a value to be predicted."""
KINDS = {"single": "one label", "multi": "a list of labels", "tokens": "a label for each word"}


@dataclass(frozen=True, slots=True)
class Numbering:
    """How the labels of a data set become numbers.

    Attributes:
        labels: what they are called, in the order of their numbers.
        keys: what rows say → the number; empty for regression.
    """

    labels: Labels
    keys: Mapping[str, int]

    @classmethod
    def of(
        cls, rows: Sequence[Mapping[str, Any]], own: Sequence[str], model: Sequence[str], field: str, name: str
    ) -> Numbering:
        """That of shaped rows.

        Args:
            own: names that come with the data, whose rows say numbers; empty: rows say the names.
            model: names that the checkpoint has; where they are those of the rows, they keep their order.
            field, name: the data set, for errors.

        Raises:
            DataError: labels of different kinds are mixed, or all are the same.
        """
        problem = _problem(rows[0])
        if any(_problem(row) != problem for row in rows):
            raise DataError("some rows have one label and some a list of them", "use one", field=field, value=name)
        found = {label for row in rows for label in _leaves(row)}
        if len({isinstance(label, str) for label in found}) > 1:
            shown = ", ".join(sorted(map(repr, found))[:4])
            raise DataError(f"some labels are numbers and some are words: {shown}", "use one", field=field, value=name)
        if own:
            return cls(Labels(problem, tuple(own)), _keys(own, by_number=True))
        values = _values(found)
        if problem == "single" and not all(value.is_integer() for value in values.values()):
            return cls(Labels("regression"), {})
        keys = _in_order(values or {_key(label) for label in found})
        if len(keys) < 2 and len(values) in (0, len(found)):
            raise _only_one(keys, problem, field, name)
        if _by_number(keys, model):
            return cls(Labels(problem, tuple(model)), _keys(model, by_number=True))
        if set(keys) == set(model):
            return cls(Labels(problem, tuple(model)), _keys(model, by_number=False))
        if problem == "single" and values and len(keys) > MANY and len(keys) * 2 > len(rows):
            text = "%s: %d labels in %d rows, all whole numbers, and each is learnt as a label of its own; "
            text += "regression needs numbers with a decimal point, not all of them whole: scale them"
            log.warning(text, field, len(keys), len(rows))
        return cls(Labels(problem, tuple(keys)), {key: number for number, key in enumerate(keys)})

    def apply(self, rows: Iterable[Mapping[str, Any]], field: str, name: str) -> list[dict[str, Any]]:
        """Shaped rows with the numbers of their labels, or with values for regression.

        Raises:
            DataError: a label that the rows to train on do not have, or a list of them where those have one; with the
                number of the row.
        """
        return [dict(row) | self._numbers(row, at, field, name) for at, row in enumerate(rows, 1)]

    def _numbers(self, row: Mapping[str, Any], at: int, field: str, name: str) -> dict[str, Any]:
        def number(label: Label) -> Any:
            found = self.keys.get(_key(label)) if self.keys else _value(label)
            if found is None:
                what = f"none of {', '.join(self.labels.names[:8])}" if self.keys else "no number"
                raise DataError(f"row {at}, label {label!r}: {what}", "mend or remove the row", field=field, value=name)
            return found

        learnt = "single" if self.labels.problem == "regression" else self.labels.problem
        if (there := _problem(row)) != learnt:
            problem = f"row {at} has {KINDS[there]}, the rows to train on have {KINDS[learnt]}"
            raise DataError(problem, "give rows of one kind", field=field, value=name)
        if there == "tokens":
            return {"labels": [NO_LABEL if label == NO_LABEL else number(label) for label in row["labels"]]}
        if there == "multi":
            return {"label": sorted({number(label) for label in row["label"]})}
        return {"label": number(row["label"])}


def ambiguous(names: Sequence[str]) -> bool:
    """Whether a whole number may mean one label by its name, and another by its number."""
    return any(name in names and names[number] != name for number, name in enumerate(map(str, range(len(names)))))


def _only_one(keys: Sequence[str], problem: str, field: str, name: str) -> DataError:
    remedy = "give rows of two labels and more"
    if not keys:
        return DataError("no row has a label", remedy, field=field, value=name)
    if problem == "multi":
        remedy = f"give each text one label, such as '{keys[0]}' and another for the others"
        return DataError(f"'{keys[0]}' is the only label in the lists", remedy, field=field, value=name)
    what = f"every {'word' if problem == 'tokens' else 'row'} has the label '{keys[0]}'"
    return DataError(what, remedy, field=field, value=name)


def _problem(row: Mapping[str, Any]) -> Literal["tokens", "multi", "single"]:
    if "labels" in row:
        return "tokens"
    return "multi" if isinstance(row["label"], list) else "single"


def _leaves(row: Mapping[str, Any]) -> list[Label]:
    if "labels" in row:
        return [label for label in row["labels"] if label != NO_LABEL]
    return list(row["label"]) if isinstance(row["label"], list) else [row["label"]]


def _key(label: Label) -> str:
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def _value(label: Label) -> float | None:
    """A label as a number, though CSV has it as text; None where it is none, or not finite."""
    try:
        value = float(label)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _values(labels: Iterable[Label]) -> dict[str, float]:
    """Key → value where all labels are numbers; else empty. What is not finite, like a nan in CSV, is left out."""
    found = {}
    for label in labels:
        try:
            value = float(label)
        except ValueError:
            return {}
        if math.isfinite(value):
            found[_key(label)] = value
    return found


def _in_order(keys: Collection[str]) -> list[str]:
    """By value where all are numbers, by their letters elsewhere."""
    values = {key: _value(key) for key in keys}
    return sorted(keys, key=lambda key: (0.0 if None in values.values() else values[key], key))


def _by_number(keys: Sequence[str], model: Sequence[str]) -> bool:
    """Whether rows say the numbers of a checkpoint's names: none of them is a name, or names are their own numbers."""
    numbers = {str(number): name for number, name in enumerate(model)}
    if not set(keys) <= set(numbers):
        return False
    return not set(keys) & set(model) or all(numbers[key] == key for key in keys)


def _keys(names: Sequence[str], *, by_number: bool) -> dict[str, int]:
    """What rows may say where both name and number of a label are known: either, unless names look like numbers."""
    numbers = {str(number): number for number in range(len(names))}
    called = {name: number for number, name in enumerate(names)}
    if any(_value(name) is not None for name in names):
        return numbers if by_number else called
    return numbers | called
