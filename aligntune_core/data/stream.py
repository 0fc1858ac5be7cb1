"""Rows that are read while they are trained: each is checked and shaped when it is met, and none is kept.

The order is the seed's: rows pass through a buffer out of which they are drawn. After the last row comes the first, and
so on; the rows from the n-th on are the same whenever they are read, which is what resuming needs.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from aligntune_core.data.formats import learnt, shape_of
from aligntune_core.data.heads import Checker, check_files
from aligntune_core.data.library import read_source, without_filling
from aligntune_core.data.reading import HEAD, Reading
from aligntune_core.data.source import Source, find_source
from aligntune_core.errors import NAMED, ConfigError, DataError

if TYPE_CHECKING:
    from aligntune_core.config import TrainingConfig

log = logging.getLogger("aligntune")

BUFFER = 1000
"""Rows among which the next one is drawn."""
Item = TypeVar("Item")


def shuffled(rows: Iterable[Item], seed: str) -> Iterator[Item]:
    """The rows in an order that the seed decides, with at most `BUFFER` of them at hand."""
    draw, held = random.Random(seed), list[Item]()  # noqa: S311 - no secret
    for row in rows:
        if len(held) < BUFFER:
            held.append(row)
            continue
        place = draw.randrange(BUFFER)
        yield held[place]
        held[place] = row
    draw.shuffle(held)
    yield from held


class Lane:
    """One data set that is read from its beginning as often as it is asked for.

    Args:
        name: of files or on the hub.
        config, field: the settings, and the one that named it.
    """

    def __init__(self, name: str, config: TrainingConfig, field: str) -> None:
        self.name, self.field = name, field
        self.source = find_source(name, field)
        check_files(self.source, field)
        _check_can_stream(self.source, config, field)
        self._table = None
        if self.source.builder != "json":
            split = config.split if self.source.kind == "hub" else None
            self._table = read_source(self.source, split, field, streaming=True)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """The raw rows.

        Raises:
            DataError: a line cannot be read.
        """
        if self._table is not None:
            return iter(self._table)
        return _objects(self.source, self.field)

    @property
    def clean(self) -> Callable[[str, Any], Any]:
        """Takes out what a table has filled up with None; lines of JSON come as they are."""
        if self._table is None:
            return lambda column, value: value
        return without_filling(self._table.features)

    def head(self) -> list[Mapping[str, Any]]:
        """The first rows.

        Raises:
            DataError: there are none.
        """
        rows = list(itertools.islice(self, HEAD))
        if not rows:
            raise DataError("has 0 rows", "give rows to train on", field=self.field, value=self.name)
        return rows


def _check_can_stream(source: Source, config: TrainingConfig, field: str) -> None:
    if source.kind == "files" and config.split not in (None, "train"):
        remedy = "leave it out; max_samples takes the first rows"
        raise ConfigError("files that are streamed have no parts", remedy, field="split", value=config.split)
    for path in source.files:
        if source.builder == "json":
            with path.open("rb") as file:
                if file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
                    problem = "is one list, which can only be read whole"
                    remedy = "write one object a line, or leave out streaming"
                    raise DataError(problem, remedy, field=field, value=str(path))


def _objects(source: Source, field: str) -> Iterator[dict[str, Any]]:
    """The objects in files of one object a line."""
    for path in source.files:
        checker = Checker(path, field)
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield checker.object_in(line, number, last=not line.endswith(b"\n"))


class RowStream:
    """Shaped rows, the same ones each time they are read: `endless` for training, or one pass in the files' order.

    Args:
        lanes: the data sets, which follow each other, each with its reading (of its raw columns).
        config: the settings.

    Attributes:
        shape: of all rows.
    """

    def __init__(self, lanes: list[tuple[Lane, Reading]], config: TrainingConfig) -> None:
        self._lanes, self._config = lanes, config
        self._empty = 0
        lane, reading = lanes[0]
        first = self._shape(next(iter(lane)), 1, lane, reading, lane.clean)
        self.shape = shape_of(first, config.rows)

    def endless(self) -> Iterator[dict[str, Any]]:
        """Pass after pass over all rows, each in an order of its own.

        Raises:
            DataError: a row cannot be read or shaped; its number is told.
        """
        for number in itertools.count():
            yield from shuffled(self, f"{self._config.seed}-{number}")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows in the order of the files, once.

        Raises:
            DataError: as `endless`.
        """
        rows = itertools.chain.from_iterable(self._rows_of(lane, reading) for lane, reading in self._lanes)
        return itertools.islice(rows, self._config.max_samples)

    def _rows_of(self, lane: Lane, reading: Reading) -> Iterator[dict[str, Any]]:
        clean = lane.clean
        for number, raw in enumerate(lane, 1):
            row = self._shape(raw, number, lane, reading, clean)
            if not learnt(row, self._config.rows).strip():
                self._tell_empty(number, lane)
            yield row

    def _shape(
        self, raw: Mapping[str, Any], number: int, lane: Lane, reading: Reading, clean: Callable[[str, Any], Any]
    ) -> dict[str, Any]:
        used = {ours: clean(theirs, raw.get(theirs)) for ours, theirs in reading.columns.items()}
        try:
            row = reading.format.shape(used, self._config.system_prompt)
            if shape_of(row, self._config.rows) != getattr(self, "shape", shape_of(row, self._config.rows)):
                raise ValueError("is no conversation, or is one, unlike the first row")
        except ValueError as error:
            problem = f"row {number}, {reading.in_their_words(str(error))}"
            raise DataError(problem, "mend or remove this row", field=lane.field, value=lane.name) from error
        return row

    def _tell_empty(self, number: int, lane: Lane) -> None:
        self._empty += 1
        if self._empty <= NAMED:
            more = "; further ones are not named" if self._empty == NAMED else ""
            log.warning("%s: row %d of %s has nothing to train%s", lane.field, number, lane.name, more)
