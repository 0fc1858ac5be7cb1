"""From core's rows to token ids and labels, and from those to tensors. A label is -100 where nothing is learnt.

Plain text and plain answers end with the end-of-sequence token. A conversation is written by the tokenizer's chat
template; what an assistant says in it is trained, with the end-of-turn mark that the template puts after it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from aligntune_core import ConfigError, DataError

log = logging.getLogger("aligntune")

IGNORED = -100
PADDING = 0
"""The token that fills up short rows; it is masked, so any would do."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One row as the model sees it; both lists have the same length."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> int:
        """How many tokens the loss counts; the first of a row has nothing before it that could predict it."""
        return sum(label != IGNORED for label in self.labels[1:])


def render(tokenizer: Any, messages: Sequence[Mapping[str, Any]], *, ask: bool = False, tools: Any = None) -> str:
    """A conversation as text; `ask` ends it where the next answer begins, `tools` are those that may be called.

    Raises:
        ConfigError: the tokenizer has no chat template, or it cannot write this conversation.
    """
    try:
        options = {"tokenize": False, "add_generation_prompt": ask, "tools": tools or None}
        return str(tokenizer.apply_chat_template(list(messages), **options))
    except Exception as error:  # a template is a program, and may raise anything
        problem = "its tokenizer has no chat template that writes these conversations"
        remedy = "give another model, or rows of prompt and completion"
        raise ConfigError(problem, remedy, field="model_name", value=tokenizer.name_or_path) from error


def _conversation(tokenizer: Any, row: Mapping[str, Any]) -> tuple[str, list[tuple[int, int]]]:
    """The text of a conversation, and where in it the answers stand; the first `context` messages are never trained."""
    messages, tools = row["messages"], row.get("tools")
    text, spans = render(tokenizer, messages, tools=tools), []
    for turn in range(row["context"], len(messages)):
        if messages[turn]["role"] != "assistant":
            continue
        before = render(tokenizer, messages[:turn], ask=True, tools=tools)
        until = render(tokenizer, messages[: turn + 1], tools=tools)
        if not (until.startswith(before) and text.startswith(until)):
            problem = f"its chat template writes message {turn + 1} differently once more follow"
            raise ConfigError(problem, "give conversations of one answer", field="model_name")
        spans.append((len(before), len(until)))
    return text, spans


def tokenise(tokenizer: Any, row: Mapping[str, Any], longest: int | None) -> Tokens:
    """One row, cut to `longest` tokens, or whole.

    It has `messages` and `context`, or `prompt` and `completion`, or `text`.
    """
    chat = "messages" in row
    if chat:
        text, spans = _conversation(tokenizer, row)
    else:
        prompt, answer, end = row.get("prompt", ""), row.get("completion", row.get("text")), tokenizer.eos_token or ""
        text = prompt + answer.removesuffix(end) + end
        spans = [(len(prompt), len(text))]
    encoded = tokenizer(text, add_special_tokens=not chat, return_offsets_mapping=True, verbose=False)
    labels = [
        token if any(max(start, begin) < min(stop, end) for begin, end in spans) else IGNORED
        for token, (start, stop) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]
    return Tokens(encoded["input_ids"][:longest], labels[:longest])


def tokenise_all(tokenizer: Any, rows: Any, longest: int) -> list[Tokens]:
    """All rows but those in which nothing is trained; they are told of. None for rows is none.

    Raises:
        DataError: nothing would be trained at all.
    """
    tokens = [tokenise(tokenizer, row, longest) for row in rows or ()]
    kept = [row for row in tokens if row.trained]
    if tokens and not kept:
        problem = f"no row has a trained token within {longest} tokens"
        raise DataError(problem, "raise max_seq_length", field="max_seq_length", value=longest)
    if len(kept) < len(tokens):
        log.warning("%d of %d rows are left out: nothing in them is trained", len(tokens) - len(kept), len(tokens))
    return kept


def collate(rows: Sequence[Tokens], device: torch.device) -> dict[str, torch.Tensor]:
    """A batch, filled up at the right: three tensors of the shape (rows, tokens of the longest row)."""

    def fill(lists: list[list[int]], value: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(row) for row in lists], batch_first=True, padding_value=value).to(device)

    return {
        "input_ids": fill([row.input_ids for row in rows], PADDING),
        "attention_mask": fill([[1] * len(row.input_ids) for row in rows], 0),
        "labels": fill([row.labels for row in rows], IGNORED),
    }
