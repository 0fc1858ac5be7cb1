"""Reading rows through the `datasets` library, and checking each before a model is loaded."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aligntune_core.config.template import template_text
from aligntune_core.data.formats import check_mapping, is_chat, learnt, shape_of
from aligntune_core.data.heads import check_files
from aligntune_core.data.labelled import LABELLED, own_names
from aligntune_core.data.library import as_dataset, may_be_filled, read_source, rows_of, table_of, without_filling
from aligntune_core.data.mixing import Part, check_alike, check_names, join, joint_columns, joint_task
from aligntune_core.data.numbering import Numbering, ambiguous
from aligntune_core.data.parts import unused_keys
from aligntune_core.data.prompts import RESERVED
from aligntune_core.data.reading import Columns, Reading, contents, find_reading
from aligntune_core.data.source import find_source
from aligntune_core.data.stream import Lane, RowStream
from aligntune_core.errors import ConfigError, DataError, numbered
from aligntune_core.rewards.values import ROW
from aligntune_core.values import Labels

if TYPE_CHECKING:
    from aligntune_core.config import TrainingConfig

log = logging.getLogger("aligntune")

SHOWN = 5
"""Bad rows that an error names; the others are counted."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Checked rows, in the shape that backends get, and where they came from."""

    train: Any
    eval: Any
    shape: str
    task: str
    source: str
    sha256: str
    labels: Labels | None = None
    columns: Columns = Columns()  # noqa: RUF009 - frozen
    eval_sha256: str | None = None
    """Of evaluation rows that are a data set of their own."""

    def summary(self) -> dict[str, Any]:
        """What `run.json` keeps of the data."""
        rows = None if isinstance(self.train, RowStream) else len(self.train)  # of a stream nobody knows
        held_back = {"eval_sha256": self.eval_sha256} if self.eval_sha256 else {}
        return {"source": self.source, "rows": rows, "sha256": self.sha256, **held_back}


@dataclass(frozen=True, slots=True)
class Table:
    """One data set as it was found: its raw rows, its name, and a digest where it is files."""

    rows: Any
    name: str
    sha256: str | None = None


def _found(rows: Any, name: str | None, split: str | None, field: str) -> Table:
    """One data set from memory, files or the hub.

    Raises:
        DataError, ConfigError: it cannot be read, or has no rows.
    """
    if rows is not None:
        table = Table(as_dataset(rows, field), "in memory")
    else:
        source = find_source(str(name), field)
        check_files(source, field)
        sha256 = source.sha256()
        table = Table(read_source(source, split, field, sha256=sha256), source.name, sha256)
    if not len(table.rows):
        raise DataError("has 0 rows", "give rows to train on", field=field, value=table.name)
    return table


def renamed(rows: Any, mapping: Mapping[str, str]) -> Any:
    """Raw rows with the columns that a mapping ({ours: theirs}) names called as ours, instead of what was called so."""
    shadowed = [ours for ours in mapping if ours in rows.column_names and ours not in mapping.values()]
    rows = rows.remove_columns(shadowed)
    return rows.rename_columns({theirs: ours for ours, theirs in mapping.items() if theirs != ours})


def _shaped(rows: Any, reading: Reading, config: TrainingConfig, field: str, name: str) -> list[dict[str, Any]]:
    """Every row checked and in its shape; the bad ones are named together."""
    bad: list[str] = []
    shaped_rows: list[dict[str, Any]] = []
    shape = shaper(rows, reading, config)
    for number, row in enumerate(rows_of(rows), 1):
        try:
            shaped_rows.append(shape(row))
            if shape_of(shaped_rows[-1], config.rows) != shape_of(shaped_rows[0], config.rows):
                raise ValueError("is no conversation, or is one, unlike the first row")
        except ValueError as error:
            bad.append(f"row {number}, {error}")
    if bad:
        more = f" and {len(bad) - SHOWN} more rows" if len(bad) > SHOWN else ""
        raise DataError("; ".join(bad[:SHOWN]) + more, "mend or remove these rows", field=field, value=name)
    _check_learnt(shaped_rows, config, field, name)
    return shaped_rows


def shaper(rows: Any, reading: Reading, config: TrainingConfig) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Raw row → the row as backends get it; a ValueError says the column, as it is called in the data, and why."""
    clean, features = without_filling(rows.features), rows.features
    nested = [theirs for ours, theirs in reading.columns.items() if ours == "tools" or may_be_filled(features, theirs)]

    def shape(row: Mapping[str, Any]) -> dict[str, Any]:
        if nested:
            row = {**row, **{column: clean(column, row.get(column)) for column in nested}}
        try:
            return reading.format.shape(reading.ours(row, config.rows), config.system_prompt)
        except ValueError as error:
            raise ValueError(reading.in_their_words(str(error))) from error

    return shape


NOTHING = {
    "answers": ("have nothing to train", "give rows with an answer"),
    "preferences": ("have no chosen answer, or one that is equal to the rejected", "give pairs that differ"),
    "prompts": ("have an empty prompt", "give rows with a prompt"),
    "labelled": ("have no text", "give rows with a text"),
    "tagged": ("have no word with a label", "give rows with words and labels"),
}
"""Of rows from which nothing can be learnt, by their shape or their kind: what they are, and the remedy."""


def _check_learnt(rows: Sequence[Mapping[str, Any]], config: TrainingConfig, field: str, name: str) -> None:
    """Name the rows that hold nothing to learn from; more than half of them are refused."""
    empty = [number for number, row in enumerate(rows, 1) if not learnt(row, config.rows).strip()]
    shape = shape_of(rows[0], config.rows) if rows else ""
    what, remedy = NOTHING.get(shape) or NOTHING[config.rows]
    if len(empty) * 2 > len(rows):
        raise DataError(f"{len(empty)} of {len(rows)} rows {what}", remedy, field=field, value=name)
    if empty:
        log.warning("%s: %d of %d rows %s: %s", field, len(empty), len(rows), what, numbered(empty))


def _read(tables: Sequence[Table], config: TrainingConfig, field: str, most: int | None = None) -> list[Part]:
    """The tables with their columns understood and their rows shaped.

    Args:
        tables: in their order.
        config, field: the settings, and the one that named the tables.
        most: of a single table, the rows that are wanted.
    """
    check_mapping(config.column_mapping, {c for table in tables for c in table.rows.column_names}, config.rows)
    parts: list[Part] = []
    for table in tables:
        there = table.rows.column_names
        mapping = {ours: theirs for ours, theirs in config.column_mapping.items() if theirs in there}
        rows = renamed(table.rows, mapping)
        reading = find_reading(contents(rows), mapping, field, table.name, config.rows, config.task_type)
        if most and len(tables) == 1:
            rows = rows.select(range(min(most, len(rows))))
        count = "" if getattr(config, "streaming", False) and field == "dataset_name" else f"{len(rows)} rows, "
        columns = announce(rows, count, reading, table.name, config)
        shaped = _shaped(rows, reading, config, field, table.name)
        if config.rows == "prompts":
            before = sum(len(part.rows) for part in parts)
            shaped = [{**row, ROW: number} for number, row in enumerate(shaped, before + 1)]
        shape = shape_of(shaped[0], config.rows)
        features = {ours: rows.features.get(theirs) for ours, theirs in reading.columns.items()}
        parts.append(Part(table.name, reading, shaped, shape, columns, own_names(features, shape)))
    check_alike(parts, field)
    return parts


def announce(rows: Any, count: str, reading: Reading, label: str, config: TrainingConfig) -> Columns:
    """Say how rows are read, and what of them is not."""
    used = list(reading.columns.values())
    others = sorted(set(rows.column_names) - set(used))
    passed = [name for name in others if name not in RESERVED] if config.rows == "prompts" else []
    unused = [name for name in others if name not in passed]
    guessed = ", ".join(f"{ours}={theirs}" for ours, theirs in reading.guessed.items())
    rest = f" (guessed: {guessed}; column_mapping decides otherwise)" if guessed else ""
    rest += f"; columns for the rewards: {', '.join(passed)}" if passed else ""
    rest += f"; columns not used: {', '.join(unused)}" if unused else ""
    head = next(iter(rows))
    if keys := sorted({key for column in used for key in unused_keys(head[column])}):
        rest += f"; keys of messages not used: {', '.join(keys)}"
    log.info("%s: %sread as %s%s", label, count, reading, rest)
    return Columns(reading.format.name, tuple(used), tuple(passed), tuple(unused))


def _refuse_misfits(config: TrainingConfig, shape: str) -> None:
    """Settings that rows of this shape cannot honour."""
    if not is_chat(shape):
        for name in ("system_prompt", "chat_template"):
            if value := getattr(config, name):
                remedy = "give rows of messages, or instruction and output"
                kind = {"prompt_completion": "prompt and completion", "labelled": "labelled text"}.get(shape, "text")
                raise ConfigError(f"rows of plain {kind} have no place for it", remedy, field=name, value=value)
    if config.chat_template:
        template_text(config.chat_template)
    if shape in LABELLED:
        for name in ("assistant_only_loss", "packing"):
            value = getattr(config, name, None)
            if value or (value is not None and name == "assistant_only_loss"):  # packing: false asks for nothing
                raise ConfigError("rows with labels have no use for it", "leave it out", field=name, value=value)
        if getattr(config, "streaming", False):
            problem = "labels get their numbers from all rows, which are read before training"
            raise ConfigError(problem, "leave it out", field="streaming", value=True)
    if shape == "text" and getattr(config, "assistant_only_loss", None):
        remedy = "leave it out: every token of a text is trained"
        raise ConfigError("rows of plain text have no answer", remedy, field="assistant_only_loss", value=True)


def _labels_told(labels: Labels) -> str:
    if labels.problem == "regression":
        return "the labels are numbers, not all whole: a value is learnt"
    more = f" and {len(labels.names) - SHOWN} more" if len(labels.names) > SHOWN else ""
    return f"{len(labels.names)} labels: {', '.join(labels.names[:SHOWN])}{more}"


def _numbering(parts: Sequence[Part], model_labels: Sequence[str], field: str, source: str) -> Numbering | None:
    """How the labels of all parts become numbers; None where rows have none."""
    if parts[0].shape not in LABELLED:
        return None
    rows = [row for part in parts for row in part.rows]
    found = Numbering.of(rows, parts[0].names, model_labels, field, source)
    log.info("%s", _labels_told(found.labels))
    return found


def load_rows(
    config: TrainingConfig, train_dataset: Any = None, eval_dataset: Any = None, model_labels: Sequence[str] = ()
) -> Rows:
    """Read, check and shape the rows that a config names.

    Args:
        config: validated settings.
        train_dataset, eval_dataset: in-memory rows, instead of the names in the config.
        model_labels: the labels that the checkpoint has a head for, by number.

    Raises:
        DataError: a file or a row is wrong; file, line or row, column and remedy are named.
        ConfigError: a setting that these rows cannot honour.
    """
    if getattr(config, "streaming", False):
        return _streamed(config, eval_dataset)
    field = "dataset_name"
    names = [None] if train_dataset is not None else config.dataset_names
    tables = [_found(train_dataset, name, config.split, field) for name in names]
    source = ", ".join(table.name for table in tables)
    parts = _read(tables, config, field, config.max_samples)
    first = parts[0]
    _refuse_misfits(config, first.shape)
    if numbering := _numbering(parts, model_labels, field, source):
        parts = [part.numbered(numbering, field) for part in parts]
    train = table_of(join(parts, config.dataset_weights, config.seed, config.max_samples))
    train, held_back, digest = _held_back(train, first, config, eval_dataset, numbering)
    counts_rows = config.rows != "prompts" and "batch_size" in config.model_fields_set
    if counts_rows and config.batch_size > len(train):
        log.warning("batch_size = %d: there are %d rows, so a batch holds no more", config.batch_size, len(train))
    return Rows(
        train, held_back, first.shape, joint_task(parts), source, _digest_of(tables, train),
        labels=numbering.labels if numbering else None, columns=joint_columns(parts), eval_sha256=digest,
    )  # fmt: skip


def _streamed(config: TrainingConfig, eval_dataset: Any) -> Rows:
    """Rows that are read while they are trained; the first ones are looked at now."""
    field = "dataset_name"
    found = [Lane(name, config, field) for name in config.dataset_names]
    parts = _read([Table(table_of(lane.head()), lane.name) for lane in found], config, field)
    lanes = [(lane, part.reading.of_raw(config.column_mapping)) for lane, part in zip(found, parts, strict=True)]
    stream = RowStream(lanes, config)
    _refuse_misfits(config, stream.shape)
    evaluates = eval_dataset is not None or config.eval_dataset_name
    held_back, digest = read_eval(parts[0], config, eval_dataset) if evaluates else (None, None)
    sha256 = _joint_digest([lane.source.sha256() or "" for lane in found])
    source = ", ".join(lane.name for lane in found)
    return Rows(
        stream, held_back, stream.shape, joint_task(parts), source, sha256,
        columns=joint_columns(parts), eval_sha256=digest,
    )  # fmt: skip


def _held_back(
    train: Any, first: Part, config: TrainingConfig, eval_dataset: Any, numbering: Numbering | None
) -> tuple[Any, Any, str | None]:
    """The rows to train, those to evaluate on or None, and a digest of the latter where they are not split off."""
    if eval_dataset is not None or config.eval_dataset_name:
        return train, *read_eval(first, config, eval_dataset, numbering)
    if not config.eval_fraction:
        return train, None, None
    if math.ceil(config.eval_fraction * len(train)) >= len(train):
        problem = f"of {len(train)} rows none would be left to train on"
        remedy = "give more rows, or a smaller share"
        raise DataError(problem, remedy, field="eval_fraction", value=config.eval_fraction)
    parts = train.train_test_split(test_size=config.eval_fraction, seed=config.seed)
    return parts["train"], parts["test"], None


def read_eval(
    first: Part, config: TrainingConfig, eval_dataset: Any, numbering: Numbering | None = None
) -> tuple[Any, str]:
    """The rows of `eval_dataset_name`, or those in memory; and their digest.

    Args:
        first: the data set to train on, or the first of several.
        config, eval_dataset: as in `load_rows`.
        numbering: how the labels of the rows to train on became numbers.

    Raises:
        DataError: they are wrong, or of another shape than the rows to train on.
    """
    field = "eval_dataset_name"
    table = _found(eval_dataset, config.eval_dataset_name, None, field)
    (part,) = _read([table], config, field)
    if part.shape != first.shape:
        problem = f"its rows are {part.shape}, those to train on {first.shape}"
        raise DataError(problem, "give rows of one kind", field=field, value=table.name)
    if part.names or ambiguous(first.names):
        check_names([first, part], field)
    rows = table_of((part.numbered(numbering, field) if numbering else part).rows)
    return rows, _digest_of([table], rows)


def _digest_of(tables: Sequence[Table], train: Any) -> str:
    """One digest of the data: of its files, or of its rows where not all are local files."""
    found = [table.sha256 for table in tables if table.sha256]
    if len(found) < len(tables):
        return _digest(train)
    return _joint_digest(found)


def _joint_digest(digests: Sequence[str]) -> str:
    """One digest of several; a single one stays as it is."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _digest(rows: Any) -> str:
    """One digest over rows that are no local file: those in memory, and those from the hub."""
    total = hashlib.sha256()
    for row in rows:
        total.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return total.hexdigest()
