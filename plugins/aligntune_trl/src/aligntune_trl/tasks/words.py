"""Words with labels as a model reads them: a word's label stands at the first piece of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aligntune_core import ConfigError, DataError
from aligntune_trl.tokenise import IGNORED

log = logging.getLogger("aligntune")


@dataclass(frozen=True, slots=True)
class TaggedTokens:
    """Words as the model sees them; a label's number at the first piece of each word, -100 elsewhere."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> bool:
        """Whether a word has a label."""
        return any(label != IGNORED for label in self.labels)


class Words:
    """Tokenises rows of words.

    Args:
        tokenizer: the model's; a fast one, which says to which word a token belongs.
        longest: tokens of a row at most.
    """

    def __init__(self, tokenizer: Any, longest: int) -> None:
        if not getattr(tokenizer, "is_fast", False):
            problem = "its tokenizer cannot say to which word a token belongs"
            raise ConfigError(problem, "give a model with a tokenizer.json", field="model_name")
        if getattr(tokenizer, "add_prefix_space", None) is False:  # byte-level ones need it for single words
            tokenizer.add_prefix_space = True
        self._tokenizer, self._longest = tokenizer, longest

    def encode(self, rows: Sequence[Sequence[str]]) -> Any:
        """The tokens of rows of words, cut."""
        options = {"is_split_into_words": True, "truncation": True, "max_length": self._longest}
        return self._tokenizer([list(row) for row in rows], **options)

    def whole(self, rows: Sequence[Sequence[str]]) -> list[list[int]]:
        """The tokens of rows of words, uncut."""
        given = [list(row) for row in rows]
        found: list[list[int]] = self._tokenizer(given, is_split_into_words=True, verbose=False)["input_ids"]
        return found

    @staticmethod
    def firsts(encoded: Any, row: int) -> dict[int, int]:
        """Where each word begins: its number → that of its first token; words that were cut off have none."""
        found: dict[int, int] = {}
        for position, word in enumerate(encoded.word_ids(row)):
            if word is not None:
                found.setdefault(word, position)
        return found

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[TaggedTokens]:
        """The rows as the model sees them."""
        encoded = self.encode([row["tokens"] for row in rows])
        done = []
        for at, row in enumerate(rows):
            labels = [IGNORED] * len(encoded["input_ids"][at])
            for word, position in self.firsts(encoded, at).items():
                labels[position] = row["labels"][word]
            done.append(TaggedTokens(encoded["input_ids"][at], labels))
        return done

    def __call__(self, rows: Any, field: str) -> Any:
        """A `Dataset` of `input_ids` and `labels`; rows that are cut are counted.

        Raises:
            DataError: no row has a word with a label.
        """

        def convert(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
            pairs = zip(batch["tokens"], batch["labels"], strict=True)
            done = self.preview([{"tokens": words, "labels": labels} for words, labels in pairs])
            learnt = [sum(label != IGNORED for label in row.labels) for row in done]
            return {
                "input_ids": [row.input_ids for row in done],
                "labels": [row.labels for row in done],
                "learnt": learnt,
                "lost": [
                    sum(label != IGNORED for label in labels) - n
                    for labels, n in zip(batch["labels"], learnt, strict=True)
                ],
            }

        done = rows.map(convert, batched=True, load_from_cache_file=False, remove_columns=rows.column_names)
        if not any(done["learnt"]):
            remedy = "raise max_seq_length, or give rows with words"
            raise DataError("no row has a word with a label", remedy, field=field)
        if lost := sum(done["lost"]):
            rows_cut = sum(n > 0 for n in done["lost"])
            log.info("%s: %d of %d rows are cut at %d tokens, or have words of no token: %d labels are not learnt",
                     field, rows_cut, len(done), self._longest, lost)  # fmt: skip
        return done.select([i for i, n in enumerate(done["learnt"]) if n]).select_columns(["input_ids", "labels"])
