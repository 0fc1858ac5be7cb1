"""From shaped rows to token ids and labels. A label is -100 where nothing is to be learnt.

Text and verbatim prompt+completion rows end with the end-of-sequence token. A conversation is rendered by the chat
template; what an assistant says is trained, up to and with the end-of-turn mark that the template writes after it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aligntune_core import ConfigError, DataError
from aligntune_core.errors import gist

log = logging.getLogger("aligntune")

IGNORED = -100
NAMED = 5
"""Rows that are named by their numbers; the others are counted."""

PLAIN_TEMPLATE = """\
{%- for message in messages -%}
{%- if not loop.first %}{{ '\\n\\n' }}{% endif -%}
{%- if message.role == 'assistant' -%}
{{ 'Answer:\\n' + message.content + eos_token }}
{%- elif message.role == 'user' -%}
{{ 'Question:\\n' + message.content }}
{%- else -%}
{{ message.content }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '\\n\\nAnswer:\\n' }}{% endif -%}"""
"""The plain prompt format, for a tokenizer that has no chat template. It is saved with the model."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One row as the model sees it; both lists have the same length."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> int:
        return sum(label != IGNORED for label in self.labels)

    def cut(self, length: int) -> Tokens:
        return Tokens(self.input_ids[:length], self.labels[:length])


Span = tuple[int, int]


class Tokeniser:
    """Tokenises rows of one shape with one tokenizer.

    Args:
        tokenizer: a fast Hugging Face tokenizer; for messages it has a chat template.
        answers_only: train the answers only; else every token.
    """

    def __init__(self, tokenizer: Any, *, answers_only: bool = True) -> None:
        if not getattr(tokenizer, "is_fast", False):
            remedy = "give a model with a tokenizer.json"
            raise DataError("its tokenizer cannot say where a token stands in the text", remedy, field="model_name")
        self.tokenizer, self.answers_only = tokenizer, answers_only

    def render(self, messages: Sequence[Mapping[str, str]], *, ask: bool = False) -> str:
        """A conversation as text; `ask` ends it where the assistant's answer begins."""
        try:
            return str(self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=ask))
        except Exception as error:  # a template is a program, and may raise anything
            roles = ", ".join(dict.fromkeys(m["role"] for m in messages))
            problem = f"it fails on a conversation of {roles}: {gist(error)}"
            remedy = "mend the template, or change the rows"
            value = self.tokenizer.chat_template
            raise ConfigError(problem, remedy, field="chat_template", value=value) from error

    def _conversation(self, row: Mapping[str, Any]) -> tuple[str, list[Span]]:
        """The text of a conversation and the spans of the answers in it."""
        messages, context = row["messages"], row["context"]
        text = self.render(messages)
        spans = []
        for turn in range(context, len(messages)):
            if messages[turn]["role"] != "assistant":
                continue
            before = self.render(messages[:turn], ask=True)
            until = text if turn == len(messages) - 1 else self.render(messages[: turn + 1])
            if not (text.startswith(before) and text.startswith(until)):
                problem = f"the chat template writes turn {turn + 1} differently once more turns follow"
                remedy = "set assistant_only_loss: false, or give conversations of one answer"
                raise DataError(problem, remedy, field="assistant_only_loss", value=True)
            spans.append((len(before), len(until)))
        return text, spans

    def _text(self, row: Mapping[str, Any]) -> tuple[str, list[Span]]:
        """The text of a verbatim row and the span of its answer."""
        end = self.tokenizer.eos_token or ""
        if "text" in row:
            text = row["text"] if row["text"].endswith(end) else row["text"] + end
            return text, [(0, len(text))]
        answer = row["completion"] if row["completion"].endswith(end) else row["completion"] + end
        text = row["prompt"] + answer
        return text, [(len(row["prompt"]), len(text))]

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[Tokens]:
        """The rows as tokens, uncut."""
        chat = "messages" in rows[0]
        if not self.answers_only and chat:
            pairs = [(text := self.render(row["messages"]), [(0, len(text))]) for row in rows]
        else:
            pairs = [self._conversation(row) if chat else self._text(row) for row in rows]
        encoded = self.tokenizer(
            [text for text, _ in pairs],
            add_special_tokens=not chat,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        everything = not self.answers_only or "text" in rows[0]
        return [
            Tokens(ids, list(ids) if everything else _labels(ids, offsets, spans))
            for ids, offsets, (_, spans) in zip(encoded["input_ids"], encoded["offset_mapping"], pairs, strict=True)
        ]


def _labels(ids: Sequence[int], offsets: Sequence[Span], spans: Sequence[Span]) -> list[int]:
    """The labels: a token is trained when a part of it lies in a span; special tokens around the text never."""
    labels = [IGNORED] * len(ids)
    position = 0
    for begin, end in spans:
        while position < len(ids) and offsets[position][1] <= begin:
            position += 1
        while position < len(ids) and offsets[position][0] < end:
            if offsets[position][1] > offsets[position][0]:
                labels[position] = ids[position]
            position += 1
    return labels


def numbered(rows: Sequence[int]) -> str:
    """The numbers of the first few rows, from 1."""
    return f"row {', '.join(map(str, rows[:NAMED]))}{', …' if len(rows) > NAMED else ''}"


def tokenise_dataset(rows: Any, tokeniser: Tokeniser, longest: int, field: str) -> Any:
    """A `Dataset` of `input_ids` and `labels`, cut to `longest`; rows without a trained token are left out and told.

    Raises:
        DataError: no row has a trained token.
    """

    def convert(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        columns = list(batch)
        split = [dict(zip(columns, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        tokens = tokeniser(split)
        cut = [t.cut(longest) for t in tokens]
        return {
            "input_ids": [t.input_ids for t in cut],
            "labels": [t.labels for t in cut],
            "cut": [len(t.input_ids) > longest for t in tokens],
            "trained": [t.trained for t in cut],
        }

    options = {"batched": True, "load_from_cache_file": False}
    converted = rows.map(convert, remove_columns=rows.column_names, new_fingerprint=f"tokens-{id(rows):x}", **options)
    trained = list(converted["trained"])
    cut, without = ([i for i, n in enumerate(found, 1) if n] for found in (converted["cut"], [not n for n in trained]))
    if cut:
        log.info("%s: %d of %d rows are cut at %d tokens: %s", field, len(cut), len(trained), longest, numbered(cut))
    if len(without) == len(trained):
        if not cut and "messages" in rows.column_names:
            value = tokeniser.tokenizer.chat_template
            raise ConfigError("it writes no answer of any row", "mend the template", field="chat_template", value=value)
        problem = f"no row has a trained token within {longest} tokens"
        raise DataError(problem, "raise max_seq_length", field="max_seq_length", value=longest)
    if without:
        text = "%s: %d of %d rows are left out, nothing in them is trained: %s"
        log.warning(text, field, len(without), len(trained), numbered(without))
        converted = converted.select([i for i, n in enumerate(trained) if n])
    return converted.select_columns(["input_ids", "labels"])
