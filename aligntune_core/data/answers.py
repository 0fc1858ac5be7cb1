"""Rows with an answer to learn.

    columns                          given to a backend as
    messages                         {"messages": [...], "context": 0}
    prompt, completion (messages)    {"messages": [...], "context": messages of the prompt}
    prompt, completion (text)        {"prompt", "completion"}: joined as they stand, as in TRL
    instruction, output[, input]     {"messages": [...], "context": ...}
    text                             {"text"}

`context` counts the leading messages that are never trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aligntune_core.data.parts import Message, messages_of, question, text_of, with_system


def _conversation(messages: list[Message], context: int, system_prompt: str | None) -> dict[str, Any]:
    whole = with_system(messages, system_prompt)
    context += len(whole) - len(messages)
    if not any(m["role"] == "assistant" for m in whole[context:]):
        raise ValueError("no assistant message: there is no answer to learn")
    return {"messages": whole, "context": context}


def text(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format text."""
    return {"text": text_of(row, "text")}


def messages(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format messages."""
    return _conversation(messages_of(row["messages"], "messages"), 0, system_prompt)


def instruction(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format instruction."""
    asked = {"role": "user", "content": question(row)}
    answer = {"role": "assistant", "content": text_of(row, "output")}
    return _conversation([asked, answer], 1, system_prompt)


def prompt_completion(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format prompt_completion."""
    if isinstance(row["prompt"], list):
        prompt, completion = messages_of(row["prompt"], "prompt"), messages_of(row["completion"], "completion")
        return _conversation([*prompt, *completion], len(prompt), system_prompt)
    return {"prompt": text_of(row, "prompt"), "completion": text_of(row, "completion")}


def learnt(row: Mapping[str, Any]) -> str:
    """The text that a shaped row trains."""
    if "messages" in row:
        return "".join(m["content"] for m in row["messages"][row["context"] :] if m["role"] == "assistant")
    return str(row["text"] if "text" in row else row["completion"])
