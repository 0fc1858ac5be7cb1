"""Rows with a label, for a text or for each of its words, and what the labels of a data set are called.

    columns                            given to a backend as
    text, label                        {"text", "label"}: the label's number, numbers of several, or a value
    tokens, labels                     {"tokens", "labels"}: words, and a label's number for each

A label may be a word, a whole number or a truth value. A list of labels for a text means that several may hold. Labels
that are numbers and not all whole are values to be predicted: regression. A word without a label has -100.

How the labels of a data set become numbers stands in `numbering`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from aligntune_core.data.parts import text_of
from aligntune_core.errors import kind_of

Label = str | int | float
LABELLED = ("labelled", "tagged")
"""Shapes of rows that have labels."""
NO_LABEL = -100
"""What stands in `labels` for a word without one, as the libraries have it."""


def labelled(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format labelled."""
    value = row["label"]
    if isinstance(value, list):
        labels = [_class(each, "label") for each in value]
        if any(not isinstance(each, str) and value.count(each) > 1 for each in value):
            raise ValueError("column 'label': the list has a number twice; it is to name the labels that hold")
        return {"text": text_of(row, "text"), "label": labels}
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
    return {"tokens": list(words), "labels": [_of_word(each) for each in labels]}


def _label(value: Any, column: str) -> Label:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"column '{column}': {value} is no label")
    if isinstance(value, str | int | float) and value != "":
        return value
    raise ValueError(f"column '{column}': {'an empty text' if value == '' else kind_of(value)}, expected a label")


def _class(value: Any, column: str) -> Label:
    """A label that is none of a value to be predicted, which a text has one of."""
    label = _label(value, column)
    if isinstance(label, float) and not label.is_integer():
        raise ValueError(f"column '{column}': {label} in a list is no label")
    return label


def _of_word(value: Any) -> Label:
    label = _class(value, "labels")
    if not isinstance(label, str) and label < 0 and label != NO_LABEL:
        raise ValueError(f"column 'labels': {label} is no label; a word without one has {NO_LABEL}")
    return label


def learnt(row: Mapping[str, Any]) -> str:
    """The text of a shaped row that has a label: without one there is nothing to tell labels by."""
    if "text" in row:
        return str(row["text"])
    return " ".join(word for word, label in zip(row["tokens"], row["labels"], strict=True) if label != NO_LABEL)


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
