"""Questions and answers as a model with an encoder and a decoder reads them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aligntune_core import ConfigError, DataError
from aligntune_core.config import SftConfig
from aligntune_core.errors import numbered
from aligntune_trl.questions import asked, cut_left, own_tokens
from aligntune_trl.tokenise import IGNORED, Tokeniser, Tokens

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


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer in tokens, uncut.

    Attributes:
        asked, said: the tokens.
        form: how many at the end of the question are no words of it: the template's, and the token that ends a text.
        special: whether the tokenizer put its own around the question.
    """

    asked: list[int]
    said: list[int]
    form: int
    special: bool


class Exchanges:
    """Tokenises rows: each answer in a row, after all that stands before it, is an exchange.

    Args:
        tokeniser: renders conversations, in the form that `predict` asks in.
        longest: tokens of a question, and of an answer, at most.
    """

    def __init__(self, tokeniser: Tokeniser, longest: int) -> None:
        self._tokeniser, self.longest = tokeniser, longest
        self._before, self._after = own_tokens(tokeniser.tokenizer)

    def texts(self, row: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        """The questions and answers of a row, and how each question ends after its last words.

        Raises:
            DataError: an answer calls tools, which has no form without a template around it.
        """
        if "messages" not in row:
            yield row["prompt"], row["completion"], ""
            return
        messages = row["messages"]
        for turn in range(row["context"], len(messages)):
            if messages[turn]["role"] == "assistant":
                if messages[turn].get("tool_calls"):
                    problem, remedy = "an answer calls tools, which a decoder of its own cannot learn", "leave them out"
                    raise DataError(problem, remedy, field="dataset_name")
                question = self._tokeniser.render(messages[:turn], ask=True, tools=row.get("tools"))
                words = str(messages[turn - 1].get("content") or "").strip() if turn else ""
                yield (
                    question,
                    messages[turn]["content"],
                    question.rpartition(words)[2] if words and words in question else "",
                )

    def tokens(self, row: Mapping[str, Any]) -> Iterator[Exchange]:
        """The tokens of each exchange, uncut; an answer ends with the token that ends a sequence."""
        tokenizer = self._tokeniser.tokenizer
        special, end = asks_with_special_tokens(tokenizer, chat="messages" in row), end_of(tokenizer)
        after = self._after if special else 0
        for question, answer, tail in self.texts(row):
            said = tokenizer(text_target=answer, verbose=False).input_ids
            yield Exchange(
                asked=asked(tokenizer, question, special_tokens=special),
                said=said if end is None or said[-1:] == [end] else [*said, end],
                form=len(asked(tokenizer, tail, special_tokens=False)) + after if tail else after,
                special=special,
            )

    def _question(self, pair: Exchange) -> list[int]:
        """What the encoder reads: of a question that is too long the end, where it asks."""
        return cut_left(self._tokeniser.tokenizer, pair.asked, self.longest, special_tokens=pair.special)

    def _lost(self, pair: Exchange) -> bool:
        """Whether a question is cut until none of its words is left."""
        before = self._before if pair.special else 0
        return self.longest < len(pair.asked) and self.longest - before <= pair.form

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[Tokens]:
        """Each row's exchanges one after the other: what the encoder reads is not trained, the answers are."""
        done = []
        for row in rows:
            ids, labels = list[int](), list[int]()
            for pair in self.tokens(row):
                question, said = self._question(pair), pair.said[: self.longest]
                ids += question + said
                labels += [IGNORED] * len(question) + said
            done.append(Tokens(ids, labels))
        return done

    def __call__(self, rows: Any, field: str) -> Any:
        """A `Dataset` of `input_ids` and `labels`, an exchange a row; those that are cut are counted.

        Raises:
            DataError: rows of plain text, which ask nothing; no question has a word left.
        """
        if "text" in rows.column_names:
            remedy = "give rows with a question and an answer"
            raise DataError("rows of plain text have no question for the encoder to read", remedy, field=field)

        def convert(batch: Mapping[str, list[Any]], numbers: list[int]) -> dict[str, list[Any]]:
            split = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
            pairs = [(pair, at + 1) for at, row in zip(numbers, split, strict=True) for pair in self.tokens(row)]
            return {
                "input_ids": [self._question(pair) for pair, _ in pairs],
                "labels": [pair.said[: self.longest] for pair, _ in pairs],
                "row": [at for _, at in pairs],
                "late": [len(pair.asked) > self.longest for pair, _ in pairs],
                "cut": [len(pair.said) > self.longest for pair, _ in pairs],
                "lost": [self._lost(pair) for pair, _ in pairs],
            }

        options = {"batched": True, "with_indices": True, "load_from_cache_file": False}
        done = rows.map(convert, remove_columns=rows.column_names, **options)
        self._tell(done, len(rows), field)
        return done.select_columns(["input_ids", "labels"])

    def _tell(self, done: Any, rows: int, field: str) -> None:
        """Tell what is cut, with the rows.

        Raises:
            DataError: no question has a word left.
        """
        if all(done["lost"]):
            problem = f"no question has a word left within {self.longest} tokens"
            raise DataError(problem, "raise max_seq_length", field="max_seq_length", value=self.longest)
        if len(done) != rows:
            log.info("%s: %d answers in %d rows, each after what stands before it", field, len(done), rows)
        late, cut = ([at for at, n in zip(done["row"], done[name], strict=True) if n] for name in ("late", "cut"))
        if late:
            text = "%s: %d of %d questions are longer than %d tokens, and only their ends are read: %s"
            log.warning(text, field, len(late), len(done), self.longest, numbered(list(dict.fromkeys(late))))
        if cut:
            text = "%s: %d of %d answers are cut at %d tokens: %s"
            log.info(text, field, len(cut), len(done), self.longest, numbered(list(dict.fromkeys(cut))))
