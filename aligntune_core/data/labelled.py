"""Rows with a label, for a text or for each of its words, and what the labels of a data set are called.

    columns                            given to a backend as
    text, label                        {"text", "label"}: the label's number, numbers of several, or a value
    tokens, labels                     {"tokens", "labels"}: words, and a label's number for each

A label may be a word, a whole number or a truth value. A list of labels for a text means that several may hold. Labels
that are numbers and not all whole are values to be predicted: regression.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aligntune_core.data.parts import text_of
from aligntune_core.errors import DataError, kind_of
from aligntune_core.values import Labels

Label = str | int | float
LABELLED = ("labelled", "tagged")
"""Shapes of rows that have labels."""


# rows


def labelled(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format labelled."""
    value = row["label"]
    if isinstance(value, list):
        return {"text": text_of(row, "text"), "label": [_label(each, "label") for each in value]}
    return {"text": text_of(row, "text"), "label": _label(value, "label")}


def tagged(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format tokens."""
    words, labels = row["tokens"], row["labels"]
    for column, value in (("tokens", words), ("labels", labels)):
        if not isinstance(value, list):
            raise ValueError(f"column '{column}': {kind_of(value)}, expected a list with one entry for each word")
    for word in words:
        if not isinstance(word, str):
            raise ValueError(f"column 'tokens': it holds {kind_of(word)}, expected text")
    if len(words) != len(labels):
        raise ValueError(f"columns 'tokens' and 'labels': {len(words)} words and {len(labels)} labels")
    return {"tokens": list(words), "labels": [_label(each, "labels") for each in labels]}


def _label(value: Any, column: str) -> Label:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"column '{column}': {value} is no label")
    if isinstance(value, str | int | float) and value != "":
        return value
    raise ValueError(f"column '{column}': {'an empty text' if value == '' else kind_of(value)}, expected a label")


def learnt(row: Mapping[str, Any]) -> str:
    """The text of a shaped row: without one there is nothing to tell labels by."""
    return str(row["text"]) if "text" in row else " ".join(row["tokens"])


# a data set


def own_names(features: Mapping[str, Any] | None, shape: str) -> tuple[str, ...]:
    """The names of labels that come with the data: the library's ClassLabel, whose rows hold numbers.

    Args:
        features: of the data set, its columns called as ours.
        shape: of its rows.
    """
    if shape not in LABELLED:
        return ()
    feature = (features or {}).get("labels" if shape == "tagged" else "label")
    feature = getattr(feature, "feature", feature)  # of a list, its entries
    return tuple(getattr(feature, "names", None) or ())


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
        if not own and problem == "single" and _are_values(found):
            return cls(Labels("regression"), {})
        keys = [_key(label) for label in sorted(found)]
        if not own and len(keys) < 2:
            what = f"every row has the label '{keys[0]}'" if keys else "no row has a label"
            raise DataError(what, "give rows of two labels and more", field=field, value=name)
        if not own and set(keys) == set(model):
            keys = list(model)
        indexed = own or (model if all(_indexes(label, model) for label in found) else ())
        if indexed:
            return cls(Labels(problem, tuple(indexed)), {str(number): number for number in range(len(indexed))})
        return cls(Labels(problem, tuple(keys)), {key: number for number, key in enumerate(keys)})

    def apply(self, rows: Iterable[Mapping[str, Any]], field: str, name: str) -> list[dict[str, Any]]:
        """Shaped rows with the numbers of their labels, or with values for regression.

        Raises:
            DataError: a label that the rows to train on do not have; with the number of the row.
        """
        return [dict(row) | self._numbers(row, at, field, name) for at, row in enumerate(rows, 1)]

    def _numbers(self, row: Mapping[str, Any], at: int, field: str, name: str) -> dict[str, Any]:
        def number(label: Label) -> Any:
            try:
                return self.keys[_key(label)] if self.keys else float(label)
            except KeyError:
                what = f"none of {', '.join(self.labels.names[:8])}"
            except ValueError:
                what = "no number"
            raise DataError(f"row {at}, label {label!r}: {what}", "mend or remove the row", field=field, value=name)

        if "labels" in row:
            return {"labels": [number(label) for label in row["labels"]]}
        if isinstance(row["label"], list):
            return {"label": sorted({number(label) for label in row["label"]})}
        return {"label": number(row["label"])}


def _problem(row: Mapping[str, Any]) -> Literal["tokens", "multi", "single"]:
    if "labels" in row:
        return "tokens"
    return "multi" if isinstance(row["label"], list) else "single"


def _leaves(row: Mapping[str, Any]) -> list[Label]:
    if "labels" in row:
        return list(row["labels"])
    return list(row["label"]) if isinstance(row["label"], list) else [row["label"]]


def _are_values(labels: Iterable[Label]) -> bool:
    """Whether all are numbers, though CSV has them as text, and one at least is not whole."""
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return False
    return not all(number.is_integer() for number in numbers)


def _indexes(label: Label, names: Sequence[str]) -> bool:
    """Whether a label is the number of one of several names."""
    return not isinstance(label, str) and float(label).is_integer() and 0 <= label < len(names)


def _key(label: Label) -> str:
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
