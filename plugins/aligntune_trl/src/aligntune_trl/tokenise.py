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
from aligntune_core.config.template import PLAIN
from aligntune_trl.conversation import Writer
from aligntune_trl.marks import Span

log = logging.getLogger("aligntune")

IGNORED = -100
NAMED = 5
"""Rows that are named by their numbers; the others are counted."""
PLAIN_TEMPLATE = PLAIN
"""The plain prompt format, for a tokenizer that has no chat template."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One row as the model sees it; both lists have the same length."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> int:
        """How many tokens the loss counts; the first of a row has nothing before it that could predict it."""
        return sum(label != IGNORED for label in self.labels[1:])

    def cut(self, length: int) -> Tokens:
        return Tokens(self.input_ids[:length], self.labels[:length])


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
        self.writer = Writer(tokenizer)

    def render(self, messages: Sequence[Mapping[str, Any]], *, ask: bool = False, tools: Any = None) -> str:
        """A conversation as text; `ask` ends it where the assistant's answer begins."""
        return self.writer.write(messages, ask=ask, tools=tools)

    def _text(self, row: Mapping[str, Any]) -> tuple[str, list[Span]]:
        """The text of a verbatim row and the span of its answer."""
        if "text" in row:
            text = self.ended(row["text"])
            return text, [(0, len(text))]
        text = row["prompt"] + self.ended(row["completion"])
        return text, [(len(row["prompt"]), len(text))]

    def ended(self, text: str) -> str:
        """A verbatim text with the end of the sequence after it, once."""
        end = self.tokenizer.eos_token or ""
        return text if text.endswith(end) else text + end

    def _whole(self, row: Mapping[str, Any]) -> tuple[str, list[Span]]:
        """The text of a conversation of which every token is trained."""
        text = self.writer.finished(row["messages"], tools=row.get("tools"))
        return text, [(0, len(text))]

    def encode(self, texts: Sequence[str], *, chat: bool) -> tuple[list[list[int]], list[list[Span]]]:
        """The tokens of texts, and where in its text each stands.

        A conversation has all its tokens from the template; to other text the tokenizer adds its own. Where that makes
        two of the token that begins or ends a sequence, one is taken away, and that is told.
        """
        encoded = self.tokenizer(
            list(texts),
            add_special_tokens=not chat,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
        for tokens, places in zip(ids, offsets, strict=True):
            self._mend(tokens, places)
        return ids, offsets

    def _mend(self, tokens: list[int], places: list[Span]) -> None:
        """Take away the second of two tokens that begin a sequence, and of two that end it."""
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        while bos is not None and tokens[:2] == [bos, bos]:
            del tokens[0], places[0]
            self.writer.tell(f"rows begin with {self.tokenizer.bos_token} twice: one of them is taken away")
        if eos is not None and tokens[-2:] == [eos, eos] and places[-1][0] == places[-1][1]:
            del tokens[-1], places[-1]  # the one that the tokenizer added: it stands nowhere in the text

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[Tokens]:
        """The rows as tokens, uncut."""
        chat = "messages" in rows[0]
        written = self.writer.answers if chat and self.answers_only else self._whole if chat else self._text
        pairs = [written(row) for row in rows]
        found = self.encode([text for text, _ in pairs], chat=chat)
        everything = not self.answers_only or "text" in rows[0]
        return [
            Tokens(ids, list(ids) if everything else _labels(ids, offsets, spans))
            for ids, offsets, (_, spans) in zip(*found, pairs, strict=True)
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


def numbered(rows: Sequence[int], what: str = "row") -> str:
    """The numbers of the first few rows, from 1."""
    return f"{what} {', '.join(map(str, rows[:NAMED]))}{', …' if len(rows) > NAMED else ''}"


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
