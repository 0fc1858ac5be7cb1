"""Reading rows through the `datasets` library, and checking each before a model is loaded."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aligntune_core.algorithms import did_you_mean
from aligntune_core.config.template import template_text
from aligntune_core.data.formats import RowFormat, check_mapping, is_chat, learnt, recognise, shape_of, task_of
from aligntune_core.data.heads import check_files, misfit
from aligntune_core.data.labelled import Numbering
from aligntune_core.data.prompts import RESERVED
from aligntune_core.data.source import Source, find_source
from aligntune_core.errors import BackendUnavailableError, ConfigError, DataError, gist, kind_of
from aligntune_core.rewards.values import ROW
from aligntune_core.values import Labels

if TYPE_CHECKING:
    from aligntune_core.config import TrainingConfig

log = logging.getLogger("aligntune")

SHOWN = 5
"""Bad rows that an error names; the others are counted."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What was made of the columns: the format's name, its columns that are there, those for rewards, and the rest."""

    format: str = ""
    used: tuple[str, ...] = ()
    rewards: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


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
    columns: Columns = Columns()

    def summary(self) -> dict[str, Any]:
        """What `run.json` keeps of the data."""
        return {"source": self.source, "rows": len(self.train), "sha256": self.sha256}


def _library() -> Any:
    os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")  # else each local file is counted on a server
    try:
        import datasets
    except ImportError as error:
        remedy = "pip install 'aligntune[data]'"
        raise BackendUnavailableError(
            "reading rows needs the datasets library", remedy, field="dataset_name"
        ) from error
    if os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] == "0":
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # when something else imported the library before
    datasets.disable_progress_bars()
    return datasets


def _read_source(source: Source, split: str | None, field: str) -> Any:
    datasets = _library()
    options = _as_text(source, datasets, field) if source.builder == "csv" else {}
    try:
        if source.kind == "hub":
            return datasets.load_dataset(source.name, split=split or "train")
        files = [str(path) for path in source.files]
        return datasets.load_dataset(source.builder, data_files=files, split=split or "train", **options)
    except ValueError as error:
        raise _refused(error, source, split, field) from error
    except (OSError, datasets.exceptions.DatasetsError) as error:
        raise _unreadable(error.__cause__ or error, source, field) from error


def _refused(error: ValueError, source: Source, split: str | None, field: str) -> ConfigError | DataError:
    """What the library means by a value error: a split that is none, is not there, or has no rows; or the rows."""
    text = str(error)
    if split and "instruction" in text.lower():  # the library's word for what stands in the brackets of a split
        what, remedy = "is no split", "write it like train or train[:1000]"
        if "no data" in text:
            what, remedy = "there are no rows in this part", "take one that has rows, such as train[:1000]"
        return ConfigError(what, remedy, field="split", value=split)
    if "split" in text.lower():
        known = re.findall(r"'([\w.-]+)'", text.partition("Should be one of")[2]) or ["train"]
        remedy = did_you_mean(re.split(r"[\[:]", split or "")[0], known, "the splits are")
        return ConfigError("the data has no such split", remedy, field="split", value=split)
    what = "its rows have no columns" if "no data" in text else f"cannot be read: {gist(error)}"
    return DataError(what, "mend the file", field=field, value=source.name)


def _unreadable(cause: BaseException, source: Source, field: str) -> DataError:
    """A file that is broken or not there, or a hub that does not answer."""
    text, remedy = f"cannot be read: {type(cause).__name__}: {gist(cause)}", "mend the file"
    if source.kind == "hub":
        remedy = "is it spelt right, and is the hub reachable? a local file or folder works offline"
    elif len(source.files) > 1 and "Cast" in type(cause).__name__:
        text, remedy = "its files have different columns or types", "name one file, or make them alike"
    return DataError(text, remedy, field=field, value=source.name)


def _header(path: Path) -> list[str]:
    """The columns of a CSV file; one without a name is called as pandas calls it."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [name or f"Unnamed: {number}" for number, name in enumerate(next(csv.reader(file)))]


def _as_text(source: Source, datasets: Any, field: str) -> dict[str, Any]:
    """The options with which every CSV column is read as text: "007" stays "007", "NA" stays "NA"."""
    first, *others = source.files
    columns = _header(first)
    for path in others:
        if sorted(_header(path)) != sorted(columns):
            problem = f"{path.name} has other columns than {first.name}"
            raise DataError(problem, "name one file, or give all the same columns", field=field, value=source.name)
    features = datasets.Features({name: datasets.Value("string") for name in columns})
    return {"features": features, "keep_default_na": False}


def _as_dataset(rows: Any, field: str) -> Any:
    """An in-memory `Dataset`, or a list of mappings made into one."""
    datasets = _library()
    if isinstance(rows, datasets.Dataset):
        return rows
    if isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows):
        try:
            return datasets.Dataset.from_list([dict(row) for row in rows])
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(_mixed(rows) or f"cannot be read: {gist(error)}", "use one type", field=field) from error
    what = "has 0 rows" if rows == [] else f"is {kind_of(rows)}"
    raise DataError(what, "pass a datasets.Dataset or a list of mappings, one for each row", field=field)


def _mixed(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which row has another type in a column than the rows before; empty where none has."""
    seen: dict[str, str] = {}
    misfits = (f"row {number}, {text}" for number, row in enumerate(rows, 1) if (text := misfit(row, seen)))
    return next(misfits, "")


def _renamed(dataset: Any, config: TrainingConfig) -> Any:
    mapping = config.column_mapping
    check_mapping(mapping, dataset.column_names, config.rows)
    shadowed = [ours for ours in mapping if ours in dataset.column_names and ours not in mapping.values()]
    dataset = dataset.remove_columns(shadowed)
    return dataset.rename_columns({theirs: ours for ours, theirs in mapping.items() if theirs != ours})


def _shaped(dataset: Any, row_format: RowFormat, config: TrainingConfig, field: str, name: str) -> Any:
    """Every row checked and in its shape; the bad ones are named together."""
    bad: list[str] = []
    shaped_rows: list[dict[str, Any]] = []
    for number, row in enumerate(dataset, 1):
        try:
            shaped_rows.append(row_format.shape(row, config.system_prompt))
            if shape_of(shaped_rows[-1], config.rows) != shape_of(shaped_rows[0], config.rows):
                raise ValueError("is no conversation, or is one, unlike the first row")
        except ValueError as error:
            bad.append(f"row {number}, {error}")
    if bad:
        more = f" and {len(bad) - SHOWN} more rows" if len(bad) > SHOWN else ""
        raise DataError("; ".join(bad[:SHOWN]) + more, "mend or remove these rows", field=field, value=name)
    _check_learnt(shaped_rows, config, field, name)
    if config.rows == "prompts":
        shaped_rows = [{**row, ROW: number} for number, row in enumerate(shaped_rows, 1)]
    return _library().Dataset.from_list(shaped_rows)


NOTHING = {
    "answers": ("have nothing to train", "give rows with an answer"),
    "preferences": ("have no chosen answer, or one that is equal to the rejected", "give pairs that differ"),
    "prompts": ("have an empty prompt", "give rows with a prompt"),
}
"""Of rows from which nothing can be learnt: what they are, and the remedy."""


def _check_learnt(rows: Sequence[Mapping[str, Any]], config: TrainingConfig, field: str, name: str) -> None:
    """Count the rows that hold nothing to learn from; more than half of them are refused."""
    empty = sum(not learnt(row, config.rows).strip() for row in rows)
    what, remedy = NOTHING[config.rows]
    if empty * 2 > len(rows):
        raise DataError(f"{empty} of {len(rows)} rows {what}", remedy, field=field, value=name)
    if empty:
        log.warning("%s: %d of %d rows %s", field, empty, len(rows), what)


def _one(
    rows: Any, name: str | None, split: str | None, config: TrainingConfig, field: str
) -> tuple[Any, RowFormat, str]:
    """Read one data set, whole: from memory, files or the hub."""
    if rows is not None:
        dataset, label = _as_dataset(rows, field), "in memory"
    else:
        source = find_source(str(name), field)
        check_files(source, field)
        dataset, label = _read_source(source, split, field), source.name
    if not len(dataset):
        raise DataError("has 0 rows", "give rows to train on", field=field, value=label)
    dataset = _renamed(dataset, config)
    row_format = recognise(dataset.column_names, field, label, config.rows, config.task_type)
    if field == "dataset_name" and config.max_samples:
        dataset = dataset.select(range(min(config.max_samples, len(dataset))))
    return dataset, row_format, label


def _announce(dataset: Any, row_format: RowFormat, label: str, config: TrainingConfig) -> Columns:
    """Say what was made of the columns."""
    used = [*row_format.required, *(c for c in row_format.optional if c in dataset.column_names)]
    others = sorted(set(dataset.column_names) - set(used))
    passed = [name for name in others if name not in RESERVED] if config.rows == "prompts" else []
    unused = [name for name in others if name not in passed]
    rest = f"; columns for the rewards: {', '.join(passed)}" if passed else ""
    rest += f"; columns not used: {', '.join(unused)}" if unused else ""
    log.info("%s: %d rows, read as %s from %s%s", label, len(dataset), row_format.name, "+".join(used), rest)
    return Columns(row_format.name, tuple(used), tuple(passed), tuple(unused))


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
    if shape in ("labelled", "tagged"):
        for name in ("assistant_only_loss", "packing"):
            if value := getattr(config, name, None):
                raise ConfigError("rows with labels have no use for it", "leave it out", field=name, value=value)
    if shape == "text" and getattr(config, "assistant_only_loss", None):
        remedy = "leave it out: every token of a text is trained"
        raise ConfigError("rows of plain text have no answer", remedy, field="assistant_only_loss", value=True)


def _own_names(dataset: Any) -> tuple[str, ...]:
    """The names of labels that come with the data: the library's ClassLabel, whose rows hold numbers."""
    feature = dataset.features.get("labels", dataset.features.get("label"))
    feature = getattr(feature, "feature", feature)  # of a list, its entries
    return tuple(getattr(feature, "names", None) or ())


def _numbered(rows: Any, numbering: Numbering, field: str, name: str) -> Any:
    return _library().Dataset.from_list(numbering.apply(rows, field, name))


def _labels_told(labels: Labels) -> str:
    if labels.problem == "regression":
        return "the labels are numbers, not all whole: a value is learnt"
    more = f" and {len(labels.names) - SHOWN} more" if len(labels.names) > SHOWN else ""
    return f"{len(labels.names)} labels: {', '.join(labels.names[:SHOWN])}{more}"


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
    dataset, row_format, label = _one(train_dataset, config.dataset_name, config.split, config, "dataset_name")
    columns = _announce(dataset, row_format, label, config)
    train = _shaped(dataset, row_format, config, "dataset_name", label)
    shape = shape_of(train[0], config.rows)
    _refuse_misfits(config, shape)
    numbering = None
    if shape in ("labelled", "tagged"):
        numbering = Numbering.of(train.to_list(), _own_names(dataset), model_labels, "dataset_name", label)
        train = _numbered(train, numbering, "dataset_name", label)
        log.info("%s", _labels_told(numbering.labels))
    held_back = None
    if eval_dataset is not None or config.eval_dataset_name:
        raw, eval_format, eval_label = _one(eval_dataset, config.eval_dataset_name, None, config, "eval_dataset_name")
        held_back = _shaped(raw, eval_format, config, "eval_dataset_name", eval_label)
        if numbering is not None:
            held_back = _numbered(held_back, numbering, "eval_dataset_name", eval_label)
    elif config.eval_fraction:
        if math.ceil(config.eval_fraction * len(train)) >= len(train):
            problem = f"of {len(train)} rows none would be left to train on"
            raise DataError(
                problem, "give more rows, or a smaller share", field="eval_fraction", value=config.eval_fraction
            )
        parts = train.train_test_split(test_size=config.eval_fraction, seed=config.seed)
        train, held_back = parts["train"], parts["test"]
    counts_rows = config.rows != "prompts" and "batch_size" in config.model_fields_set
    if counts_rows and config.batch_size > len(train):
        log.warning("batch_size = %d: there are %d rows, so a batch holds no more", config.batch_size, len(train))
    source = find_source(config.dataset_name) if train_dataset is None and config.dataset_name else None
    sha256 = (source.sha256() if source else None) or _digest(train)
    labels = numbering.labels if numbering else None
    return Rows(train, held_back, shape, task_of(row_format, shape), label, sha256, labels, columns)


def _digest(rows: Any) -> str:
    """One digest over rows that are no local file: those in memory, and those from the hub."""
    total = hashlib.sha256()
    for row in rows:
        total.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return total.hexdigest()
