"""Rows with an answer to learn.

    columns                          given to a backend as
    messages                         {"messages": [...], "context": 0}
    conversations                    the same; messages of {from, value}, as in ShareGPT
    prompt, completion (messages)    {"messages": [...], "context": messages of the prompt}
    prompt, completion (text)        {"prompt", "completion"}: joined as they stand, as in TRL
    instruction, output[, input]     {"messages": [...], "context": ...}
    text                             {"text"}

`context` counts the leading messages that are never trained. A column `system` becomes the first message; `tools`, a
list of JSON schemas or its JSON text, stays beside the messages as such a list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aligntune_core.data.parts import Message, messages_of, question, text_of, with_system
from aligntune_core.data.tools import tools_of


def _system(row: Mapping[str, Any], messages: list[Message]) -> str | None:
    """The row's own system prompt, where it has a column for it."""
    own = None if row.get("system") is None else text_of(row, "system")
    if own and messages[0]["role"] == "system" and messages[0]["content"] != own:
        raise ValueError("column 'system': the conversation begins with another system message")
    return own or None


def _conversation(
    row: Mapping[str, Any], messages: list[Message], context: int, system_prompt: str | None
) -> dict[str, Any]:
    whole = with_system(messages, _system(row, messages) or system_prompt)
    context += len(whole) - len(messages)
    if not any(m["role"] == "assistant" for m in whole[context:]):
        raise ValueError("no assistant message: there is no answer to learn")
    tools = tools_of(row)
    return {"messages": whole, "context": context, **({"tools": tools} if tools else {})}


def text(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format text."""
    return {"text": text_of(row, "text")}


def messages(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format messages."""
    return _conversation(row, messages_of(row["messages"], "messages"), 0, system_prompt)


def sharegpt(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format sharegpt."""
    return _conversation(row, messages_of(row["conversations"], "conversations"), 0, system_prompt)


def instruction(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format instruction."""
    asked = {"role": "user", "content": question(row)}
    answer = {"role": "assistant", "content": text_of(row, "output")}
    return _conversation(row, [asked, answer], 1, system_prompt)


def prompt_completion(row: Mapping[str, Any], system_prompt: str | None) -> dict[str, Any]:
    """A row of the format prompt_completion."""
    if isinstance(row["prompt"], list):
        prompt, completion = messages_of(row["prompt"], "prompt"), messages_of(row["completion"], "completion")
        return _conversation(row, [*prompt, *completion], len(prompt), system_prompt)
    if tools_of(row):
        raise ValueError("column 'tools': a prompt of plain text has no place for it")
    return {"prompt": text_of(row, "prompt"), "completion": text_of(row, "completion")}


def learnt(row: Mapping[str, Any]) -> str:
    """The text that a shaped row trains."""
    if "messages" in row:
        answers = [m for m in row["messages"][row["context"] :] if m["role"] == "assistant"]
        return "".join(m["content"] + (json.dumps(m["tool_calls"]) if m.get("tool_calls") else "") for m in answers)
    return str(row["text"] if "text" in row else row["completion"])
