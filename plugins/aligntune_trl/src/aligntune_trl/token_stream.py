"""Rows that are tokenised while they are trained: an `IterableDataset` of tokens for TRL, and what is told of them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from aligntune_core import ConfigError, DataError, RunEvents
from aligntune_core.errors import NAMED
from aligntune_trl.base import TrlTrainer
from aligntune_trl.generate import SAMPLED
from aligntune_trl.tokenise import Tokeniser, Tokens

log = logging.getLogger("aligntune")

CHUNK = 64
"""Rows that are tokenised at once."""


class TokenStream:
    """Tokens of rows without end.

    Args:
        rows: gives shaped rows, the same ones whenever it is called.
        tokeniser: of the model.
        longest: tokens of a row; longer ones are cut.
        check: raises where a row is longer than the model can read, or holds tokens that it does not know.

    Attributes:
        read, cut, left_out: how many rows were read, were cut, and had no trained token within `longest`.
    """

    def __init__(
        self,
        rows: Callable[[], Iterator[Mapping[str, Any]]],
        tokeniser: Tokeniser,
        longest: int,
        check: Callable[[Iterable[list[int]]], None],
    ) -> None:
        self._rows, self._tokeniser, self._longest, self._check = rows, tokeniser, longest, check
        self.read = self.cut = self.left_out = 0

    def __iter__(self) -> Iterator[dict[str, list[int]]]:
        """The rows with a trained token, as TRL's collator takes them.

        Raises:
            DataError: a row is wrong, or of very many rows none has a trained token.
        """
        self.read = self.cut = self.left_out = 0
        rows = self._rows()
        while chunk := list(itertools.islice(rows, CHUNK)):
            for tokens in self._tokeniser(chunk):
                if kept := self._kept(tokens):
                    yield {"input_ids": kept.input_ids, "labels": kept.labels}

    def _kept(self, tokens: Tokens) -> Tokens | None:
        """The row as it is trained; None where nothing of it is."""
        self.read += 1
        self.cut += len(tokens.input_ids) > self._longest
        cut = tokens.cut(self._longest)
        if cut.trained:
            self._check([cut.input_ids])
            return cut
        self.left_out += 1
        if self.left_out <= NAMED:
            log.warning("dataset_name: row %d as it comes is left out, nothing in it is trained", self.read)
        if self.left_out == self.read == HOPELESS:
            problem = f"none of {self.read} rows has a trained token within {self._longest} tokens"
            raise DataError(problem, "raise max_seq_length", field="max_seq_length", value=self._longest)
        return None

    def tell(self) -> None:
        """Say how many rows were cut and left out."""
        if self.cut:
            log.info("dataset_name: %d of %d rows were cut at %d tokens", self.cut, self.read, self._longest)
        if self.left_out:
            log.warning(
                "dataset_name: %d of %d rows were left out, nothing in them is trained", self.left_out, self.read
            )


HOPELESS = 10_000
"""Rows without one trained token after which it is not tried further."""


def check_one_process(processes: int) -> None:
    """Refuse several processes, each of which would read all rows.

    Raises:
        ConfigError: there are several.
    """
    if processes > 1:
        problem, remedy = f"trains in one process, and there are {processes}", "start one process, or leave it out"
        raise ConfigError(problem, remedy, field="streaming", value=True)


def as_dataset(stream: TokenStream) -> Any:
    """The stream as the class that TRL accepts."""
    from datasets import Features, IterableDataset, List, Value

    features = Features({"input_ids": List(Value("int32")), "labels": List(Value("int64"))})
    return IterableDataset.from_generator(stream.__iter__, features=features)


def first_rows(rows: Iterable[Mapping[str, Any]]) -> Any:
    """A `Dataset` of the first rows, which the finished model is shown with."""
    from datasets import Dataset

    first = list(itertools.islice(rows, SAMPLED))
    names = dict.fromkeys(name for row in first for name in row)
    return Dataset.from_dict({name: [row.get(name) for row in first] for name in names}, on_mixed_types="use_json")


class StreamTrainer(TrlTrainer):
    """A trainer that says at its end how many rows were cut and left out.

    Args:
        stream: what it reads.
        *parts: those of `TrlTrainer`.
    """

    def __init__(self, stream: TokenStream, *parts: Any) -> None:
        super().__init__(*parts)
        self._stream = stream

    def facts(self) -> dict[str, Any]:
        """What streaming adds to `resolved`."""
        return {"streaming": True}

    def train(self, events: RunEvents) -> None:
        """Run TRL's loop.

        Raises:
            DataError: a row is wrong.
        """
        try:
            super().train(events)
        finally:
            self._stream.tell()
