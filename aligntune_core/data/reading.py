"""Which columns are read as what: by our names where they are there, else by the usual other names, if one way fits.

A name alone is not enough for a guess: what stands in the column must be of the kind that the format wants.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aligntune_core.data.formats import FORMATS, Kind, RowFormat, known_columns, no_format, read_for
from aligntune_core.errors import ConfigError, DataError

_ASKED, _ANSWERED = ("question", "query", "input"), ("response", "answer", "completion", "target")
_TALK = ("conversation", "chat", "dialogue", "dialog")

OTHER_NAMES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "messages": {"messages": _TALK},
    "sharegpt": {"conversations": _TALK},
    "prompt_completion": {"completion": (*_ANSWERED, "output")},
    "instruction": {"instruction": _ASKED, "output": _ANSWERED, "input": ("context",)},
    "labelled": {"text": ("content", "document", "sentence"), "label": ("labels",)},
    "tagged": {"tokens": ("words",), "labels": ("ner_tags", "pos_tags", "chunk_tags", "tags")},
    "text": {"text": ("content", "document")},
}
"""For each format with an answer or a label: our column → what it is called elsewhere."""
BESIDE_NAMES: Mapping[str, tuple[str, ...]] = {"system": ("system_prompt", "system_message")}
"""The same, for the columns that any conversation may have."""

CHAT, SHAREGPT, TEXT, WORDS = "messages", "sharegpt", "text", "words"
_WANTED = {"messages": CHAT, "conversations": SHAREGPT, "tokens": WORDS}
"""What has to stand in what is guessed to be a column of ours; in others text."""
_LABELS = ("label", "labels")
"""Columns in which anything may stand: what is no label is told with its row."""
HEAD = 100
"""Rows that are looked at to see what stands in a column."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What was made of the columns: the format's name, its columns that are there, those for rewards, and the rest."""

    format: str = ""
    used: tuple[str, ...] = ()
    rewards: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """A format, and the columns that it is read from.

    Attributes:
        format: the format.
        columns: our column → the data's, for each that is there.
    """

    format: RowFormat
    columns: Mapping[str, str]

    @property
    def guessed(self) -> dict[str, str]:
        """The columns that have another name than ours."""
        return {ours: theirs for ours, theirs in self.columns.items() if ours != theirs}

    def ours(self, row: Mapping[str, Any], kind: Kind) -> Mapping[str, Any]:
        """A row under our names; for prompts with all its columns, which the rewards are given."""
        return row if kind == "prompts" else {ours: row[theirs] for ours, theirs in self.columns.items()}

    def in_their_words(self, problem: str) -> str:
        """What is wrong with a row, with the names that the data has."""
        for ours, theirs in self.guessed.items():
            problem = problem.replace(f"column '{ours}'", f"column '{theirs}'")
        return problem

    def of_raw(self, mapping: Mapping[str, str]) -> Reading:
        """The same, of rows that a `column_mapping` has not renamed, and with columns that only later rows may have."""
        names = {column: column for column in self.format.optional} | dict(self.columns)
        return Reading(self.format, {ours: mapping.get(theirs, theirs) for ours, theirs in names.items()})

    def __str__(self) -> str:
        return f"{self.format.name} from {'+'.join(self.columns.values())}"


def _content(value: object) -> str:
    """What stands in a column, from one of its values."""
    if isinstance(value, str):
        return TEXT
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, str):
        return WORDS
    if isinstance(first, Mapping):
        has = {key for key, given in first.items() if given is not None}
        return CHAT if "role" in has else SHAREGPT if {"from", "value"} <= has else ""
    return ""


def contents(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What stands in each column: text, messages, sharegpt (messages of {from, value}), words, or else (empty)."""
    found: dict[str, str] = {}
    for row in itertools.islice(rows, HEAD):
        for column, value in row.items():
            if not found.setdefault(column, ""):
                found[column] = _content(value)
    return found


def _candidates(row_format: RowFormat, column: str, there: Mapping[str, str]) -> list[str]:
    """The columns that may be meant by one of ours: the one of that name, else the usual other names."""
    if column in there:
        return [column]
    names = OTHER_NAMES.get(row_format.name, {}).get(column, ()) or BESIDE_NAMES.get(column, ())
    wanted = _WANTED.get(column, TEXT)
    return [name for name in names if name in there and (there[name] == wanted or column in _LABELS)]


def _readings(row_format: RowFormat, there: Mapping[str, str]) -> list[Reading]:
    """Every way in which columns can be read as a format."""
    ways = itertools.product(*(_candidates(row_format, column, there) for column in row_format.required))
    found = []
    for way in ways:
        if len(set(way)) < len(way):
            continue
        columns = dict(zip(row_format.required, way, strict=True))
        for column in row_format.optional:
            others = [name for name in _candidates(row_format, column, there) if name not in columns.values()]
            columns |= {column: others[0]} if len(others) == 1 else {}
        found.append(Reading(row_format, columns))
    return found


def _guess(formats: tuple[RowFormat, ...], there: Mapping[str, str], field: str, name: str) -> Reading | None:
    readings = [reading for candidate in formats for reading in _readings(candidate, there)]
    labelled = {reading.columns["text"] for reading in readings if reading.format.name == "labelled"}
    readings = [r for r in readings if r.format.name != "text" or r.columns["text"] not in labelled]
    if len(readings) > 1:
        first, second = readings[:2]
        more = f", and {len(readings) - 2} more ways" if len(readings) > 2 else ""
        ours = next(iter(first.guessed.items()), next(iter(first.columns.items())))
        remedy = f"say which with column_mapping, such as {ours[0]}={ours[1]}"
        raise DataError(f"can be read as {first}, or as {second}{more}", remedy, field=field, value=name)
    return readings[0] if readings else None


def _possible(mapping: Mapping[str, str], kind: Kind, task: str | None) -> tuple[RowFormat, ...]:
    """The formats that have all columns that a `column_mapping` names, for it always wins."""
    formats = read_for(kind, task)
    named = set(mapping) & set(known_columns(kind))
    found = tuple(f for f in formats if named <= {*f.required, *f.optional})
    if named and not found and kind != "prompts":
        of = f" of {task}" if len(formats) < len(FORMATS[kind]) else ""
        problem = f"no format{of} has the columns {' and '.join(sorted(named))} together"
        raise ConfigError(problem, "name those of one format", field="column_mapping", value=dict(mapping))
    return found or formats


def find_reading(
    there: Mapping[str, str],
    mapping: Mapping[str, str],
    field: str,
    name: str,
    kind: Kind = "answers",
    task: str | None = None,
) -> Reading:
    """How rows are read, once `column_mapping` has renamed their columns.

    Args:
        there: column → what stands in it, as `contents` says.
        mapping: the `column_mapping`; the format has all its columns.
        field, name: the setting that named the rows, and its value.
        kind: what the algorithm learns from; only answers are guessed.
        task: what is asked for; None: whatever the columns say.

    Raises:
        DataError: no format fits, or none by our names and several by others; both readings are told.
        ConfigError: no format has all columns of the mapping.
    """
    formats = _possible(mapping, kind, task)
    for candidate in formats:
        if set(candidate.required) <= set(there):
            if candidate.name == "text" and any(_readings(f, there) for f in formats if f.name == "labelled"):
                break  # a text beside labels of another name
            used = (*candidate.required, *(c for c in candidate.optional if c in there))
            columns = {column: column for column in used}
            if candidate.name == "sharegpt" and there["conversations"] == CHAT:  # messages, though called so
                candidate, columns = FORMATS[kind][0], {"messages": columns.pop("conversations"), **columns}
            return Reading(candidate, columns)
    guessed = _guess(formats, there, field, name) if kind == "answers" else None
    if guessed is None:
        raise no_format(list(there), field, name, formats)
    return guessed
