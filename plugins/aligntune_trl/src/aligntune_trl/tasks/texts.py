"""Texts with a label as a model reads them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aligntune_core import Labels
from aligntune_trl.tasks.readable import only_read, own_room
from aligntune_trl.tokenise import IGNORED

log = logging.getLogger("aligntune")


@dataclass(frozen=True, slots=True)
class LabelledTokens:
    """A text as the model sees it, and what it is to say of it: no token is trained."""

    input_ids: list[int]
    label: Any

    @property
    def labels(self) -> list[int]:
        return [IGNORED] * len(self.input_ids)


class Texts:
    """Tokenises labelled texts.

    Args:
        tokenizer: the model's.
        labels: what the rows' numbers mean.
        longest: tokens of a text at most.

    Raises:
        ConfigError: so few that nothing of a text is read.
    """

    def __init__(self, tokenizer: Any, labels: Labels, longest: int) -> None:
        self._tokenizer, self._labels, self.longest = tokenizer, labels, longest
        self._own = own_room(tokenizer, longest)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each, cut."""
        options = {"truncation": True, "max_length": self.longest}
        found: list[list[int]] = self._tokenizer(list(texts), **options)["input_ids"]
        return found

    def is_cut(self, text: str, ids: Sequence[int]) -> bool:
        """Whether a text is longer than what the model reads of it, `ids`; one that leaves room is whole."""
        return len(ids) >= self.longest and len(self._tokenizer(text, verbose=False)["input_ids"]) > self.longest

    def read(self, text: str, ids: Sequence[int]) -> bool:
        """Whether there is anything in a text, of which the model reads `ids`."""
        return bool(text.strip()) and len(ids) > self._own

    def _target(self, label: Any) -> Any:
        """What the loss compares with: a label's number, a 1 for each that holds, or a value."""
        if self._labels.problem != "multi":
            return label
        return [float(number in label) for number in range(len(self._labels.names))]

    def __call__(self, rows: Any, field: str) -> Any:
        """A `Dataset` of `input_ids` and `labels`; texts that are cut are counted, rows without text left out and told.

        Raises:
            DataError: no row has text.
        """

        def convert(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
            found = self.ids(batch["text"])
            return {
                "input_ids": found,
                "labels": [self._target(label) for label in batch["label"]],
                "cut": [self.is_cut(text, ids) for text, ids in zip(batch["text"], found, strict=True)],
                "read": [self.read(text, ids) for text, ids in zip(batch["text"], found, strict=True)],
            }

        done = rows.map(convert, batched=True, load_from_cache_file=False, remove_columns=rows.column_names)
        if cut := sum(done["cut"]):
            log.info("%s: %d of %d rows are cut at %d tokens", field, cut, len(done), self.longest)
        return only_read(done, done["read"], field, "text").select_columns(["input_ids", "labels"])

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[LabelledTokens]:
        """The rows as the model sees them."""
        ids = self.ids([row["text"] for row in rows])
        return [LabelledTokens(each, row["label"]) for each, row in zip(ids, rows, strict=True)]
