"""What rows mean: the formats that are recognised, for each kind of algorithm, and the one shape they are brought into.

How a row of each format is shaped stands in `answers`, `preferences` and `prompts`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aligntune_core.algorithms import did_you_mean
from aligntune_core.data import answers, labelled, preferences, prompts
from aligntune_core.errors import DataError

Kind = Literal["answers", "preferences", "prompts"]
Shape = Literal[
    "text", "prompt_completion", "messages", "labelled", "tagged", "preference", "preference_messages", "prompt",
    "prompt_messages",
]  # fmt: skip
CLASSIFY_TEXT, CLASSIFY_WORDS = "text_classification", "token_classification"
Shaper = Callable[[Mapping[str, Any], str | None], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class RowFormat:
    """A recognised format.

    Attributes:
        name: as it is told.
        required, optional: its columns.
        shape: a row and the system prompt → the row as backends get it; a ValueError says the column and why.
        task: what its rows speak of; empty: conversations are chat_completion, texts text_generation.
    """

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    shape: Shaper
    task: str = ""


BESIDE = ("system", "tools")
"""What any conversation may have in columns of its own."""
FOLLOWING = "instruction_following"

FORMATS: Mapping[Kind, tuple[RowFormat, ...]] = {
    "answers": (
        RowFormat("messages", ("messages",), BESIDE, answers.messages, "chat_completion"),
        RowFormat("sharegpt", ("conversations",), BESIDE, answers.sharegpt, "chat_completion"),
        RowFormat("prompt_completion", ("prompt", "completion"), ("tools",), answers.prompt_completion, FOLLOWING),
        RowFormat("instruction", ("instruction", "output"), ("input", *BESIDE), answers.instruction, FOLLOWING),
        RowFormat("labelled", ("text", "label"), (), labelled.labelled, CLASSIFY_TEXT),
        RowFormat("tagged", ("tokens", "labels"), (), labelled.tagged, CLASSIFY_WORDS),
        RowFormat("text", ("text",), (), answers.text, "text_generation"),
    ),
    "preferences": (RowFormat("preference", ("chosen", "rejected"), ("prompt",), preferences.preference),),
    "prompts": (
        RowFormat("prompt", ("prompt",), (), prompts.prompt),
        RowFormat("messages", ("messages",), (), prompts.messages),
        RowFormat("instruction", ("instruction",), ("input",), prompts.instruction, FOLLOWING),
    ),
}
"""By what an algorithm learns from; where several fit, the first."""

_LEARNT: Mapping[Kind, Callable[[Mapping[str, Any]], str]] = {
    "answers": answers.learnt,
    "preferences": preferences.learnt,
    "prompts": prompts.learnt,
}


def learnt(row: Mapping[str, Any], kind: Kind) -> str:
    """The text of a shaped row without which there is nothing to learn from it."""
    return labelled.learnt(row) if shape_of(row, kind) in ("labelled", "tagged") else _LEARNT[kind](row)


def read_for(kind: Kind, task: str | None) -> tuple[RowFormat, ...]:
    """The formats that a task reads: labels are read for its own tasks only, and no other format is."""
    labels = (CLASSIFY_TEXT, CLASSIFY_WORDS)
    if task is None:
        return FORMATS[kind]
    return tuple(f for f in FORMATS[kind] if (f.task == task if task in labels else f.task not in labels))


def no_format(columns: Collection[str], field: str, name: str, formats: Collection[RowFormat]) -> DataError:
    """The error of rows that have the columns of none of these formats."""
    shapes = "; or ".join("+".join(f.required) for f in formats)
    remedy = f"rows need {shapes}; rename yours with column_mapping"
    what = f"the columns are {', '.join(sorted(columns)[:12])}" if columns else "the rows have no columns"
    return DataError(what, remedy, field=field, value=name)


def known_columns(kind: Kind) -> list[str]:
    """The columns of all formats of a kind, sorted."""
    return sorted({c for f in FORMATS[kind] for c in (*f.required, *f.optional)})


def check_mapping(mapping: Mapping[str, str], columns: Collection[str], kind: Kind = "answers") -> None:
    """Check a `column_mapping` ({ours: theirs}) against the columns that there are.

    Raises:
        DataError: ours is no column of any format (rewards take any), or theirs is not in the data.
    """
    taken, known = list(mapping.values()), known_columns(kind)
    for ours, theirs in mapping.items():
        if taken.count(theirs) > 1:
            problem = f"'{theirs}' cannot be two columns of ours"
            raise DataError(problem, "name it once", field="column_mapping", value=dict(mapping))
        if ours not in known and kind != "prompts":
            remedy = did_you_mean(ours, known, "ours are")
            raise DataError(f"'{ours}' is no column of ours", remedy, field="column_mapping", value=dict(mapping))
        if theirs not in columns:
            remedy = did_you_mean(theirs, columns, "the columns are")
            raise DataError(f"the data has no column '{theirs}'", remedy, field="column_mapping", value=dict(mapping))


def shape_of(row: Mapping[str, Any], kind: Kind = "answers") -> Shape:
    """The shape of a shaped row."""
    if kind == "preferences":
        return "preference" if isinstance(row["prompt"], str) else "preference_messages"
    if kind == "prompts":
        return "prompt" if isinstance(row["prompt"], str) else "prompt_messages"
    if "labels" in row or "label" in row:
        return "tagged" if "labels" in row else "labelled"
    return "text" if "text" in row else "messages" if "messages" in row else "prompt_completion"


def is_chat(shape: str) -> bool:
    """Whether rows of this shape are conversations, which the chat template writes."""
    return shape.endswith("messages")


def task_of(row_format: RowFormat, shape: str) -> str:
    """What rows speak of."""
    return row_format.task or ("chat_completion" if is_chat(shape) else "text_generation")
