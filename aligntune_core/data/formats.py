"""What rows mean: the formats that are recognised, and the one shape that each is brought into.

    columns                          format              given to a backend as
    messages                         messages            {"messages": [...], "context": 0}
    prompt, completion (messages)    prompt_completion   {"messages": [...], "context": messages of the prompt}
    prompt, completion (text)        prompt_completion   {"prompt", "completion"}: joined as they stand, as in TRL
    instruction, output[, input]     instruction         {"messages": [...], "context": ...}
    text                             text                {"text"}

`context` counts the leading messages that are never trained.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aligntune_core.algorithms import did_you_mean
from aligntune_core.errors import DataError, kind_of

Shape = Literal["text", "prompt_completion", "messages"]
ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class RowFormat:
    """A recognised format: its columns, and the task that its rows speak of."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    task: str


FORMATS = (
    RowFormat("messages", ("messages",), (), "chat_completion"),
    RowFormat("prompt_completion", ("prompt", "completion"), (), "instruction_following"),
    RowFormat("instruction", ("instruction", "output"), ("input",), "instruction_following"),
    RowFormat("text", ("text",), (), "text_generation"),
)
KNOWN_COLUMNS = sorted({c for f in FORMATS for c in (*f.required, *f.optional)})


def recognise(columns: Collection[str], field: str = "dataset_name", name: str = "") -> RowFormat:
    """The format of rows with these columns; where several fit, the first of `FORMATS`.

    Raises:
        DataError: none fits; the remedy lists what is read.
    """
    for candidate in FORMATS:
        if set(candidate.required) <= set(columns):
            return candidate
    shapes = "; or ".join("+".join(f.required) for f in FORMATS)
    remedy = f"rows need {shapes}; rename yours with column_mapping"
    what = f"the columns are {', '.join(sorted(columns)[:12])}" if columns else "the rows have no columns"
    raise DataError(what, remedy, field=field, value=name)


def check_mapping(mapping: Mapping[str, str], columns: Collection[str]) -> None:
    """Check a `column_mapping` ({ours: theirs}) against the columns that there are.

    Raises:
        DataError: ours is no column of any format, or theirs is not in the data.
    """
    taken = list(mapping.values())
    for ours, theirs in mapping.items():
        if taken.count(theirs) > 1:
            problem = f"'{theirs}' cannot be two columns of ours"
            raise DataError(problem, "name it once", field="column_mapping", value=dict(mapping))
        if ours not in KNOWN_COLUMNS:
            remedy = did_you_mean(ours, KNOWN_COLUMNS, "ours are")
            raise DataError(f"'{ours}' is no column of ours", remedy, field="column_mapping", value=dict(mapping))
        if theirs not in columns:
            remedy = did_you_mean(theirs, columns, "the columns are")
            raise DataError(f"the data has no column '{theirs}'", remedy, field="column_mapping", value=dict(mapping))


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise ValueError(f"column '{column}': {kind_of(value)}, expected text")
    return value


def _messages(value: Any, column: str) -> list[dict[str, str]]:
    if not isinstance(value, list):
        raise ValueError(f"column '{column}': {kind_of(value)}, expected a list of {{role, content}}")
    if not value:
        raise ValueError(f"column '{column}': an empty list")
    found = []
    for turn, message in enumerate(value, 1):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            raise ValueError(f"column '{column}', message {turn}: role {role!r:.30} is none of {', '.join(ROLES)}")
        content = message.get("content")
        if not isinstance(content, str):
            raise ValueError(f"column '{column}', message {turn}: content is {kind_of(content)}, expected text")
        found.append({"role": role, "content": content})
    return found


def _conversation(messages: list[dict[str, str]], context: int, system_prompt: str | None) -> dict[str, Any]:
    if system_prompt and messages[0]["role"] not in ("system", "developer"):
        messages, context = [{"role": "system", "content": system_prompt}, *messages], context + 1
    if not any(m["role"] == "assistant" for m in messages[context:]):
        raise ValueError("no assistant message: there is no answer to learn")
    return {"messages": messages, "context": context}


def question(instruction: str, context: str) -> str:
    """An instruction and its input as one question: with a blank line between."""
    return f"{instruction}\n\n{context}" if context.strip() else instruction


def normalise(row: Mapping[str, Any], row_format: RowFormat, system_prompt: str | None = None) -> dict[str, Any]:
    """A row in the shape that backends get.

    Raises:
        ValueError: the row does not fit; says the column and why, without the row's number.
    """
    if row_format.name == "text":
        return {"text": _text(row, "text")}
    if row_format.name == "messages":
        return _conversation(_messages(row["messages"], "messages"), 0, system_prompt)
    if row_format.name == "instruction":
        extra = "" if row.get("input") is None else _text(row, "input")
        asked = {"role": "user", "content": question(_text(row, "instruction"), extra)}
        answer = {"role": "assistant", "content": _text(row, "output")}
        return _conversation([asked, answer], 1, system_prompt)
    if isinstance(row["prompt"], list):
        prompt, completion = _messages(row["prompt"], "prompt"), _messages(row["completion"], "completion")
        return _conversation([*prompt, *completion], len(prompt), system_prompt)
    return {"prompt": _text(row, "prompt"), "completion": _text(row, "completion")}


def shape_of(row: Mapping[str, Any]) -> Shape:
    """The shape of a normalised row."""
    return "text" if "text" in row else "messages" if "messages" in row else "prompt_completion"


def answer_of(row: Mapping[str, Any]) -> str:
    """The text that a normalised row trains."""
    if "text" in row:
        return str(row["text"])
    if "completion" in row:
        return str(row["completion"])
    return "".join(m["content"] for m in row["messages"][row["context"] :] if m["role"] == "assistant")
