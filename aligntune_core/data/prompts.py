"""Rows with a prompt, which the model answers itself; the other columns go to the rewards, by their names.

columns                  given to a backend as
prompt                   {"prompt": text, or messages, ...}
messages                 {"prompt": the messages up to the last answer, ...}
instruction[, input]     {"prompt": one message, ...}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aligntune_core.data.parts import Message, messages_of, question, text_of, with_system

RESERVED = (
    *("prompts", "completion", "completions", "completion_ids"),
    *("trainer_state", "log_extra", "log_metric", "environments", "environment"),
    *("image", "images", "tools"),
)
"""Names of a reward's own arguments, and of what training libraries read from rows themselves; not passed on."""


def _row(row: Mapping[str, Any], prompt: str | list[Message]) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if name not in RESERVED}
    return {**kept, "prompt": prompt}


def prompt(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format prompt."""
    if not isinstance(row["prompt"], list):
        return _row(row, text_of(row, "prompt"))
    messages = messages_of(row["prompt"], "prompt")
    if messages[-1]["role"] == "assistant":
        raise ValueError("column 'prompt': it ends with an answer of the assistant: there is nothing left to say")
    return _row(row, with_system(messages, system_prompt))


def messages(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format messages: its last answer is left for the model."""
    whole = messages_of(row["messages"], "messages")
    while whole and whole[-1]["role"] == "assistant":
        whole = whole[:-1]
    if not whole:
        raise ValueError("column 'messages': there is nothing to answer in it")
    return _row(row, with_system(whole, system_prompt))


def instruction(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format instruction."""
    return _row(row, with_system([{"role": "user", "content": question(row)}], system_prompt))


def learnt(row: Mapping[str, Any]) -> str:
    """The text that a shaped row asks."""
    return row["prompt"] if isinstance(row["prompt"], str) else "".join(m["content"] for m in row["prompt"])
