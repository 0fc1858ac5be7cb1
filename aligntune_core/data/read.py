"""Reading rows through the `datasets` library, and checking each before a model is loaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aligntune_core.algorithms import did_you_mean
from aligntune_core.data.formats import (
    RowFormat,
    answer_of,
    check_mapping,
    normalise,
    recognise,
    shape_of,
)
from aligntune_core.data.heads import check_files
from aligntune_core.data.source import Source, find_source
from aligntune_core.errors import BackendUnavailableError, ConfigError, DataError

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
    sha256: str | None

    def summary(self) -> dict[str, Any]:
        """What `run.json` keeps of the data."""
        return {"source": self.source, "rows": len(self.train), "sha256": self.sha256}


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        remedy = "pip install 'aligntune[data]'"
        raise BackendUnavailableError("reading rows needs the datasets library", remedy, field="dataset_name") from error
    datasets.disable_progress_bars()
    return datasets


def _read_source(source: Source, split: str | None, field: str) -> Any:
    datasets = _library()
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False} if source.builder == "csv" else {}
    try:
        if source.kind == "hub":
            return datasets.load_dataset(source.name, split=split or "train")
        files = [str(path) for path in source.files]
        return datasets.load_dataset(source.builder, data_files=files, split=split or "train", **options)
    except ValueError as error:
        if "split" in str(error).lower():
            known = re.findall(r"'([\w.-]+)'", str(error).partition("Should be one of")[2]) or ["train"]
            remedy = did_you_mean(re.split(r"[\[:]", split or "")[0], known, "the splits are")
            raise ConfigError("the data has no such split", remedy, field="split", value=split) from error
        raise DataError(f"cannot be read: {error}", "see the cause above", field=field, value=source.name) from error
    except (OSError, datasets.exceptions.DatasetsError) as error:
        cause = error.__cause__ or error
        hub = "is it spelt right, and is the hub reachable? a local file or folder works offline"
        remedy = hub if source.kind == "hub" else "mend the file"
        text = f"cannot be read: {type(cause).__name__}: {cause}".split("\n")[0][:160]
        raise DataError(text, remedy, field=field, value=source.name) from error


def _as_dataset(rows: Any, field: str) -> Any:
    """An in-memory `Dataset`, or a list of mappings made into one."""
    datasets = _library()
    if isinstance(rows, datasets.Dataset):
        return rows
    if isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows):
        return datasets.Dataset.from_list([dict(row) for row in rows])
    kind = type(rows).__name__
    raise DataError(f"is a {kind}", "pass a datasets.Dataset or a list of mappings", field=field)


def _renamed(dataset: Any, mapping: Mapping[str, str]) -> Any:
    check_mapping(mapping, dataset.column_names)
    shadowed = [ours for ours, theirs in mapping.items() if ours in dataset.column_names and ours != theirs]
    dataset = dataset.remove_columns(shadowed)
    return dataset.rename_columns({theirs: ours for ours, theirs in mapping.items() if theirs != ours})


def _normalised(dataset: Any, row_format: RowFormat, config: TrainingConfig, field: str, name: str) -> Any:
    """Every row checked and in its shape; the bad ones are named together."""
    bad: list[str] = []
    empty = 0

    def good() -> Iterator[dict[str, Any]]:
        nonlocal empty
        for number, row in enumerate(dataset, 1):
            try:
                shaped = normalise(row, row_format, config.system_prompt)
            except ValueError as error:
                bad.append(f"row {number}, {error}")
                continue
            empty += not answer_of(shaped).strip()
            yield shaped

    shaped_rows = list(good())
    if bad:
        more = f" and {len(bad) - SHOWN} more rows" if len(bad) > SHOWN else ""
        raise DataError("; ".join(bad[:SHOWN]) + more, "mend or remove these rows", field=field, value=name)
    if empty * 2 > len(shaped_rows):
        problem = f"{empty} of {len(shaped_rows)} rows have nothing to train"
        raise DataError(problem, "give rows with an answer", field=field, value=name)
    if empty:
        log.warning("%s: %d of %d rows have an empty answer", field, empty, len(shaped_rows))
    return _library().Dataset.from_list(shaped_rows)


def _one(rows: Any, name: str | None, split: str | None, config: TrainingConfig, field: str) -> tuple[Any, RowFormat, str]:
    """Read one data set, whole: from memory, files or the hub."""
    if rows is not None:
        dataset, label = _as_dataset(rows, field), "in memory"
    else:
        source = find_source(str(name), field)
        check_files(source, field)
        dataset, label = _read_source(source, split, field), source.name
    if not len(dataset):
        raise DataError("has 0 rows", "give rows to train on", field=field, value=label)
    dataset = _renamed(dataset, config.column_mapping)
    row_format = recognise(dataset.column_names, field, label)
    if field == "dataset_name" and config.max_samples:
        dataset = dataset.select(range(min(config.max_samples, len(dataset))))
    return dataset, row_format, label


def _announce(dataset: Any, row_format: RowFormat, label: str) -> None:
    used = [*row_format.required, *(c for c in row_format.optional if c in dataset.column_names)]
    unused = sorted(set(dataset.column_names) - set(used))
    rest = f"; columns not used: {', '.join(unused)}" if unused else ""
    log.info("%s: %d rows, read as %s from %s%s", label, len(dataset), row_format.name, "+".join(used), rest)


def _refuse_misfits(config: TrainingConfig, shape: str) -> None:
    """Settings that rows of this shape cannot honour."""
    if shape != "messages":
        for name in ("system_prompt", "chat_template"):
            if value := getattr(config, name):
                remedy = "give rows of messages, or instruction and output"
                raise ConfigError(f"rows of plain {shape.replace('_', ' and ')} have no place for it", remedy, field=name, value=value)
    if shape == "text" and config.assistant_only_loss:
        remedy = "leave it out: every token of a text is trained"
        raise ConfigError("rows of plain text have no answer", remedy, field="assistant_only_loss", value=True)


def load_rows(config: TrainingConfig, train_dataset: Any = None, eval_dataset: Any = None) -> Rows:
    """Read, check and shape the rows that a config names.

    Args:
        config: validated settings.
        train_dataset, eval_dataset: in-memory rows, instead of the names in the config.

    Raises:
        DataError: a file or a row is wrong; file, line or row, column and remedy are named.
        ConfigError: a setting that these rows cannot honour.
    """
    dataset, row_format, label = _one(train_dataset, config.dataset_name, config.split, config, "dataset_name")
    _announce(dataset, row_format, label)
    train = _normalised(dataset, row_format, config, "dataset_name", label)
    shape = shape_of(train[0])
    _refuse_misfits(config, shape)
    held_back = None
    if eval_dataset is not None or config.eval_dataset_name:
        raw, eval_format, eval_label = _one(eval_dataset, config.eval_dataset_name, None, config, "eval_dataset_name")
        held_back = _normalised(raw, eval_format, config, "eval_dataset_name", eval_label)
    elif config.eval_fraction:
        if len(train) < 2:
            raise DataError("one row cannot be split", "give more rows", field="eval_fraction", value=config.eval_fraction)
        parts = train.train_test_split(test_size=config.eval_fraction, seed=config.seed)
        train, held_back = parts["train"], parts["test"]
    sha256 = find_source(config.dataset_name).sha256() if train_dataset is None and config.dataset_name else None
    return Rows(train, held_back, shape, row_format.task, label, sha256)
