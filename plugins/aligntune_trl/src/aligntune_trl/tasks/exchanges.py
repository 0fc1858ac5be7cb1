"""Questions and answers as a model with an encoder and a decoder reads them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aligntune_core import ConfigError, DataError
from aligntune_core.config import SftConfig
from aligntune_trl.tokenise import IGNORED, Tokeniser, Tokens
from aligntune_trl.tokenizer import without_bos

log = logging.getLogger("aligntune")


def asks_with_special_tokens(tokenizer: Any, *, chat: bool) -> bool:
    """Whether a question gets the tokenizer's own tokens around it, which encoders were trained with.

    A conversation has all its tokens from the template, unless the tokenizer is one that ends texts itself.
    """
    own = len(tokenizer("a").input_ids) > len(tokenizer("a", add_special_tokens=False).input_ids)
    return own or not chat


def end_of(tokenizer: Any) -> int | None:
    """The token that ends an answer: that of a sequence, or of tokenizers without one the separator."""
    found: int | None = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    return found


def check_settings(config: SftConfig) -> None:
    """Refuse what only a model of one half can do.

    Raises:
        ConfigError: names the setting.
    """
    for name in ("packing", "streaming"):
        if getattr(config, name):
            problem = "a model with an encoder and a decoder does not train so"
            raise ConfigError(problem, "leave it out", field=name, value=True)
    if config.assistant_only_loss is False:
        problem = "what the encoder reads cannot be trained: the decoder learns the answers"
        raise ConfigError(problem, "leave it out", field="assistant_only_loss", value=False)


class Exchanges:
    """Tokenises rows: each answer in a row, after all that stands before it, is an exchange.

    Args:
        tokeniser: renders conversations, in the form that `predict` asks in.
        longest: tokens of a question, and of an answer, at most.
    """

    def __init__(self, tokeniser: Tokeniser, longest: int) -> None:
        self._tokeniser, self._longest = tokeniser, longest

    def texts(self, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """The questions and answers of a row.

        Raises:
            DataError: an answer calls tools, which has no form without a template around it.
        """
        if "messages" not in row:
            yield row["prompt"], row["completion"]
            return
        messages = row["messages"]
        for turn in range(row["context"], len(messages)):
            if messages[turn]["role"] == "assistant":
                if messages[turn].get("tool_calls"):
                    problem, remedy = "an answer calls tools, which a decoder of its own cannot learn", "leave them out"
                    raise DataError(problem, remedy, field="dataset_name")
                asked = self._tokeniser.render(messages[:turn], ask=True, tools=row.get("tools"))
                yield asked, messages[turn]["content"]

    def tokens(self, row: Mapping[str, Any]) -> Iterator[tuple[list[int], list[int]]]:
        """The tokens of each exchange, uncut; an answer ends with the token that ends a sequence."""
        tokenizer = self._tokeniser.tokenizer
        special, end = asks_with_special_tokens(tokenizer, chat="messages" in row), end_of(tokenizer)
        for question, answer in self.texts(row):
            question = without_bos(tokenizer, question) if special else question
            asked = tokenizer(question, add_special_tokens=special, verbose=False).input_ids
            said = tokenizer(text_target=answer, verbose=False).input_ids
            yield asked, said if end is None or said[-1:] == [end] else [*said, end]

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[Tokens]:
        """Each row's exchanges one after the other: what the encoder reads is not trained, the answers are."""
        done = []
        for row in rows:
            ids, labels = list[int](), list[int]()
            for asked, said in self.tokens(row):
                asked, said = asked[: self._longest], said[: self._longest]
                ids += asked + said
                labels += [IGNORED] * len(asked) + said
            done.append(Tokens(ids, labels))
        return done

    def __call__(self, rows: Any, field: str) -> Any:
        """A `Dataset` of `input_ids` and `labels`, an exchange a row; those that are cut are counted.

        Raises:
            DataError: rows of plain text, which ask nothing.
        """
        if "text" in rows.column_names:
            remedy = "give rows with a question and an answer"
            raise DataError("rows of plain text have no question for the encoder to read", remedy, field=field)

        def convert(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
            split = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
            pairs = [pair for row in split for pair in self.tokens(row)]
            return {
                "input_ids": [asked[: self._longest] for asked, _ in pairs],
                "labels": [said[: self._longest] for _, said in pairs],
                "cut": [max(len(asked), len(said)) > self._longest for asked, said in pairs],
            }

        done = rows.map(convert, batched=True, load_from_cache_file=False, remove_columns=rows.column_names)
        if len(done) != len(rows):
            log.info("%s: %d answers in %d rows, each after what stands before it", field, len(done), len(rows))
        if cut := sum(done["cut"]):
            log.info(
                "%s: %d of %d answers or their questions are cut at %d tokens", field, cut, len(done), self._longest
            )
        return done.select_columns(["input_ids", "labels"])
