"""Which rows share a forward pass. Within an update the order is free, so rows of like length come together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow.compute as pc
from accelerate.data_loader import SeedableRandomSampler
from datasets import List
from torch.utils.data import RandomSampler, Sampler

from aligntune_core.config import TrainingConfig

_Trainer: Any = object  # transformers' class, which comes beneath when it is known


class LongestFirst(Sampler[int]):
    """The rows of each update as they were drawn, the longest first.

    The loss of an update is a mean over all of its tokens or targets, so how it is cut into forward passes changes
    nothing but rounding and what dropout draws. Rows are padded less, and where memory is short, it is so at once.

    Args:
        drawn: the order in which the library would take the rows.
        lengths: tokens of each row.
        update: rows of an update, in all processes.
    """

    def __init__(self, drawn: SeedableRandomSampler, lengths: Sequence[int], update: int) -> None:
        self._drawn, self._lengths, self._update = drawn, lengths, update

    def __len__(self) -> int:
        return len(self._drawn)

    def __iter__(self) -> Iterator[int]:
        drawn = iter(self._drawn)
        while rows := list(itertools.islice(drawn, self._update)):
            yield from sorted(rows, key=self._lengths.__getitem__, reverse=True)

    def set_epoch(self, epoch: int) -> None:
        """Draw what belongs to that epoch, as the library asks it."""
        self._drawn.set_epoch(epoch)


class _PadsLittle(_Trainer):  # type: ignore[misc]
    """What `padding_little` puts on top of a trainer class."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(train_dataset)
        args = self.args
        passes = args.gradient_accumulation_steps * args.world_size
        if type(sampler) is not RandomSampler or passes == 1:
            return sampler
        drawn = SeedableRandomSampler(sampler.data_source, data_seed=args.data_seed)
        return LongestFirst(drawn, lengths(sampler.data_source), args.train_batch_size * passes)


def lengths(rows: Any) -> list[int]:
    """How many tokens the model reads of each row, those of an answer that has a half of its own among them."""
    columns = [name for name in ("input_ids", "labels") if isinstance(rows.features.get(name), List)]
    table = rows.select_columns(columns).with_format("arrow")[:]
    found = [pc.list_value_length(table[name]).to_pylist() for name in columns]
    return [sum(row) for row in zip(*found, strict=True)]


def padding_little(base: type[Any], config: TrainingConfig) -> type[Any]:
    """A trainer class that cuts updates so, unless the user chose how rows are drawn, or an update is one pass."""
    chosen = "train_sampling_strategy" in config.backend_options
    return base if chosen else type(base.__name__, (_PadsLittle, base), {})
