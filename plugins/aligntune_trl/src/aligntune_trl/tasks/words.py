"""Words with labels as a model reads them: a word's label stands at the first piece of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from aligntune_core import ConfigError
from aligntune_trl.tasks.metrics import UNREAD
from aligntune_trl.tasks.readable import only_read, own_room
from aligntune_trl.tokenise import IGNORED

log = logging.getLogger("aligntune")

_SPACED = ("pre_tokenizer", "post_processor")
"""The parts of a tokenizer's core that may put a space before a word."""


@dataclass(frozen=True, slots=True)
class TaggedTokens:
    """Words as the model sees them; a label's number at the first piece of each word, -100 elsewhere."""

    input_ids: list[int]
    labels: list[int]
    read: list[int]
    """Which of the words that have a label are read; none of a row in which nothing is written."""


def separate_words(tokenizer: Any) -> None:
    """Have a byte-level tokenizer read each word as one that stands after a space, here and wherever it is saved.

    In texts nearly all words stand so, and the model knows them so. What the tokenizer says of itself and what its
    core does are changed together: a saved one is made of the one or of the other, by the kind of tokenizer.
    """
    core = tokenizer.backend_tokenizer
    parts = json.loads(core.to_str())
    if not _put_spaces([parts[name] for name in _SPACED]):
        return
    changed = Tokenizer.from_str(json.dumps(parts))
    for name in _SPACED:
        if parts[name] is not None:
            setattr(core, name, getattr(changed, name))
    tokenizer.add_prefix_space = tokenizer.init_kwargs["add_prefix_space"] = True


def _put_spaces(parts: Any) -> int:
    """Set `add_prefix_space` in the parts of a tokenizer's core that read bytes; in how many it was not set."""
    if isinstance(parts, list):
        return sum(map(_put_spaces, parts))
    if not isinstance(parts, dict):
        return 0
    inner = sum(_put_spaces(parts.get(name)) for name in ("pretokenizers", "processors"))
    if parts.get("type") not in ("ByteLevel", "RobertaProcessing") or parts["add_prefix_space"]:
        return inner
    parts["add_prefix_space"] = True
    return inner + 1


@dataclass(frozen=True, slots=True)
class HeldBack:
    """What is to be said of the words of rows that are evaluated, as numbers of labels.

    Attributes:
        labels: of the words with a label in each row that the model reads.
        read: for each such row, which of these words are read.
        beyond: the labels of rows of which no word is read.
    """

    labels: Sequence[Sequence[int]]
    read: Sequence[Sequence[int]]
    beyond: Sequence[Sequence[int]]

    def filled(self, guessed: Sequence[Sequence[int]]) -> list[list[int]]:
        """What a model says of all words, of what it says of those that it reads; the others have `UNREAD`."""
        rows = []
        for labels, read, said in zip(self.labels, self.read, guessed, strict=True):
            row = [UNREAD] * len(labels)
            for word, label in zip(read, said, strict=True):
                row[word] = label
            rows.append(row)
        return rows + [[UNREAD] * len(labels) for labels in self.beyond]


class Words:
    """Tokenises rows of words.

    Args:
        tokenizer: the model's; a fast one, which says to which word a token belongs.
        longest: tokens of a row at most.

    Raises:
        ConfigError: another tokenizer, or so few tokens that nothing of a row is read.
    """

    def __init__(self, tokenizer: Any, longest: int) -> None:
        if not getattr(tokenizer, "is_fast", False):
            problem = "its tokenizer cannot say to which word a token belongs"
            raise ConfigError(problem, "give a model with a tokenizer.json", field="model_name")
        own_room(tokenizer, longest)
        separate_words(tokenizer)
        self._tokenizer, self.longest = tokenizer, longest

    def encode(self, rows: Sequence[Sequence[str]]) -> Any:
        """The tokens of rows of words, cut."""
        options = {"is_split_into_words": True, "truncation": True, "max_length": self.longest}
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
            firsts = self.firsts(encoded, at) if any(map(str.strip, row["tokens"])) else {}
            labels = [IGNORED] * len(encoded["input_ids"][at])
            for word, position in firsts.items():
                labels[position] = row["labels"][word]
            named = [word for word, label in enumerate(row["labels"]) if label != IGNORED]
            read = [place for place, word in enumerate(named) if word in firsts]
            done.append(TaggedTokens(encoded["input_ids"][at], labels, read))
        return done

    def table(self, rows: Any) -> Any:
        """A `Dataset` of `input_ids`, `labels`, `given` (the labels that words have), and `read` (which are read)."""

        def convert(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
            pairs = zip(batch["tokens"], batch["labels"], strict=True)
            done = self.preview([{"tokens": words, "labels": labels} for words, labels in pairs])
            return {
                "input_ids": [row.input_ids for row in done],
                "labels": [row.labels for row in done],
                "given": [[label for label in labels if label != IGNORED] for labels in batch["labels"]],
                "read": [row.read for row in done],
            }

        return rows.map(convert, batched=True, load_from_cache_file=False, remove_columns=rows.column_names)

    def __call__(self, rows: Any, field: str) -> Any:
        """A `Dataset` of `input_ids` and `labels`; labels that are not learnt are counted, rows without any left out.

        Raises:
            DataError: no row has a word with a label.
        """
        done = self.table(rows)
        self._tell(done, field, "are not learnt")
        return only_learnt(done, field).select_columns(["input_ids", "labels"])

    def held_back(self, rows: Any, field: str) -> tuple[Any, HeldBack]:
        """The same of rows to be evaluated on, with what is to be said of all their words, read or not.

        Raises:
            DataError: no row has a word with a label.
        """
        done = self.table(rows)
        self._tell(done, field, "count as wrong")
        read = only_learnt(done, field)
        beyond = [labels for labels, words in zip(done["given"], done["read"], strict=True) if not words]
        return read.select_columns(["input_ids", "labels"]), HeldBack(read["given"][:], read["read"][:], beyond)

    def _tell(self, done: Any, field: str, what: str) -> None:
        """Count the words that are not read."""
        lost = [len(given) - len(read) for given, read in zip(done["given"], done["read"], strict=True)]
        if any(lost):
            text = "%s: %d of %d rows are cut at %d tokens, or have words of no token: %d of %d labels %s"
            rows, labels = sum(n > 0 for n in lost), sum(map(len, done["given"]))
            log.info(text, field, rows, len(done), self.longest, sum(lost), labels, what)


def only_learnt(done: Any, field: str) -> Any:
    """The rows of which a word is read."""
    return only_read(done, list(map(bool, done["read"])), field, "words to read")
