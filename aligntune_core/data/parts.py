"""The parts that rows are made of: text, and conversations, whatever the names in their messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aligntune_core.data.tools import calls_of
from aligntune_core.errors import kind_of

ROLES = ("system", "developer", "user", "assistant", "tool")
SHAREGPT_ROLES: Mapping[str, str] = {
    **dict.fromkeys(("human",), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "model", "function_call"), "assistant"),
    **dict.fromkeys(("function", "observation", "function_response"), "tool"),
}
"""What speakers are called in ShareGPT files, and the role that each is."""
CALLING = ("function_call",)
"""Speakers in ShareGPT files whose words are calls of tools, as JSON."""
READ = ("role", "content", "from", "value", "tool_calls", "name", "tool_call_id")
PLAIN = ("user", "assistant", "system", "developer")
"""Roles of which role and content are all there is, unless tools are called."""
Message = dict[str, Any]
"""One turn: role, content, and perhaps what `messages_of` keeps of tools."""


def text_of(row: Mapping[str, Any], column: str) -> str:
    """A column that must be text.

    Raises:
        ValueError: it is something else.
    """
    value = row.get(column)
    if not isinstance(value, str):
        raise ValueError(f"column '{column}': {kind_of(value)}, expected text")
    return value


def _role_of(message: Any, where: str) -> str:
    speaker = message.get("from") if isinstance(message, Mapping) and message.get("role") is None else None
    if isinstance(speaker, str):
        role: Any = SHAREGPT_ROLES.get(speaker, speaker)
    else:
        role = message.get("role") if isinstance(message, Mapping) else None
    if role not in ROLES:
        raise ValueError(f"{where}: role {(speaker or role)!r:.30} is none of {', '.join(ROLES)}")
    return str(role)


def _message(message: Any, column: str, turn: int) -> Message:
    if isinstance(message, dict) and message.get("role") in PLAIN and not message.get("tool_calls"):
        content = message.get("content")
        if isinstance(content, str):  # nearly every message is this
            return {"role": message["role"], "content": content}
    where = f"column '{column}', message {turn}"
    role = _role_of(message, where)
    content = message.get("value") if message.get("content") is None else message["content"]
    if message.get("from") in CALLING and message.get("role") is None:
        return {"role": role, "content": "", "tool_calls": calls_of(content, where)}
    found: Message = {"role": role, "content": content}
    if role == "assistant" and message.get("tool_calls"):
        found["tool_calls"] = calls_of(message["tool_calls"], f"{where}, tool_calls")
        found["content"] = "" if content is None else content  # a call needs no words
    if not isinstance(found["content"], str):
        raise ValueError(f"{where}: content is {kind_of(content)}, expected text")
    names = ("name", "tool_call_id") if role == "tool" else ()
    return found | {name: message[name] for name in names if isinstance(message.get(name), str)}


def messages_of(value: Any, column: str) -> list[Message]:
    """A column that must be a conversation, of {role, content} or, as in ShareGPT, of {from, value}.

    Kept are role, content, the `tool_calls` of an assistant, and `name` and `tool_call_id` of a tool.

    Raises:
        ValueError: it is something else; with the number of the message.
    """
    if not isinstance(value, list):
        raise ValueError(f"column '{column}': {kind_of(value)}, expected a list of {{role, content}}")
    if not value:
        raise ValueError(f"column '{column}': an empty list")
    return [_message(message, column, turn) for turn, message in enumerate(value, 1)]


def unused_keys(value: Any) -> set[str]:
    """What messages have beside what is read of them."""
    messages = [message for message in value if isinstance(message, Mapping)] if isinstance(value, list) else []
    return {key for message in messages for key, given in message.items() if key not in READ and given is not None}


def with_system(messages: list[Message], system_prompt: str | None) -> list[Message]:
    """The conversation, after the system prompt where it has none of its own."""
    if system_prompt and (not messages or messages[0]["role"] not in ("system", "developer")):
        return [{"role": "system", "content": system_prompt}, *messages]
    return messages


def question(row: Mapping[str, Any]) -> str:
    """An instruction and its input as one question: with a blank line between.

    Raises:
        ValueError: one of them is no text.
    """
    instruction = text_of(row, "instruction")
    context = "" if row.get("input") is None else text_of(row, "input")
    return f"{instruction}\n\n{context}" if context.strip() else instruction
