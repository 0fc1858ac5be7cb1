"""What the `datasets` library does for us: reading files and hub names, and tables in memory."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aligntune_core.algorithms import did_you_mean
from aligntune_core.data.heads import misfit
from aligntune_core.data.source import Source
from aligntune_core.errors import BackendUnavailableError, ConfigError, DataError, gist, kind_of


def library() -> Any:
    """The module `datasets`, without progress bars and without counting local files on a server.

    Raises:
        BackendUnavailableError: it is not installed.
    """
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


def open_rows(folder: str) -> Any:
    """Rows that a `datasets.Dataset` wrote with `save_to_disk`."""
    return library().Dataset.load_from_disk(folder)


def read_source(
    source: Source, split: str | None, field: str, *, sha256: str | None = None, streaming: bool = False
) -> Any:
    """The raw rows of files or of a hub name.

    Args:
        source: where they are; files are checked before.
        split: of the library; None: train.
        field: the setting that named them.
        sha256: of the files. The library keeps what it has read under name and time of a file, both of which a changed
            file may share with the former one; with the digest in its key it reads such a file anew.
        streaming: read them one after the other, as an `IterableDataset`.

    Raises:
        ConfigError: there is no such split.
        DataError: they cannot be read.
    """
    datasets = library()
    options = _as_text(source, datasets, field) if source.builder == "csv" else {}
    if source.builder == "json":
        options["parse_agent_traces"] = False  # else files with columns of certain names would become one row each
    try:
        if source.kind == "hub":
            return datasets.load_dataset(source.name, split=split or "train", streaming=streaming)
        where = {"data_files": [str(path) for path in source.files], "split": split or "train", "streaming": streaming}
        key = f"sha256-{sha256[:32]}" if sha256 else None
        try:
            return datasets.load_dataset(source.builder, key, **where, **options)
        except datasets.exceptions.DatasetGenerationError as error:
            if not (looked := _longer_look(source, error)):
                raise
            return datasets.load_dataset(source.builder, key, **where, **options, chunksize=looked)
    except ValueError as error:
        raise _refused(error, source, split, field) from error
    except (OSError, datasets.exceptions.DatasetsError) as error:
        raise unreadable(error.__cause__ or error, source, field) from error


CHUNK = 10 * 2**20
"""Bytes of JSON from which the library infers what stands in a file."""


def _longer_look(source: Source, error: BaseException) -> int:
    """The bytes to infer from where a row beyond the first ones has keys that none of them had; 0: it is not that."""
    sizes = [path.stat().st_size for path in source.files]
    longer = source.builder == "json" and max(sizes) > CHUNK and "cast" in str(error.__cause__).lower()
    return max(sizes) + 1 if longer else 0


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


def unreadable(cause: BaseException, source: Source, field: str) -> DataError:
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


def as_dataset(rows: Any, field: str) -> Any:
    """An in-memory `Dataset`, or a list of mappings made into one.

    Raises:
        DataError: it is something else, or a column has two types; the row is named.
    """
    datasets = library()
    if isinstance(rows, datasets.Dataset):
        return rows
    if isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows):
        if text := _mixed(rows):
            raise DataError(text, "use one type", field=field)
        try:
            return table_of(rows)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"cannot be read: {gist(error)}", "use one type", field=field) from error
    what = "has 0 rows" if rows == [] else f"is {kind_of(rows)}"
    raise DataError(what, "pass a datasets.Dataset or a list of mappings, one for each row", field=field)


def table_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A `Dataset` of these rows, with the columns of all of them.

    A table has one type for each place in it: keys that only some messages have, or the arguments of a tool, would come
    back filled up with None. Where the keys differ, the library keeps JSON text instead and gives back what was there.
    """
    columns = dict.fromkeys(column for row in rows for column in row)
    values = {column: [row.get(column) for row in rows] for column in columns}
    return library().Dataset.from_dict(values, on_mixed_types="use_json")


def rows_of(table: Any) -> Iterator[dict[str, Any]]:
    """The rows of a `Dataset`, taken out many at once, which is quicker."""
    for batch in table.iter(batch_size=1000):
        names = list(batch)
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(names, values, strict=True))


def _mixed(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which row has another type in a column than the rows before; empty where none has."""
    seen: dict[str, str] = {}
    misfits = (f"row {number}, {text}" for number, row in enumerate(rows, 1) if (text := misfit(row, seen)))
    return next(misfits, "")


def without_filling(features: Mapping[str, Any] | None) -> Callable[[str, Any], Any]:
    """Takes out the None that a table puts where a mapping within a row lacks a key that others have.

    Args:
        features: of the data set; None: not known.

    Returns:
        (column, value) → the value; what the table holds as JSON text comes back as it was written.
    """
    json_text = library().Json

    def clean(value: Any, feature: Any) -> Any:
        if isinstance(feature, json_text):
            return value
        if isinstance(value, Mapping):
            inner = feature if isinstance(feature, Mapping) else {}
            return {key: clean(given, inner.get(key)) for key, given in value.items() if given is not None}
        if isinstance(value, list) and value and isinstance(value[0], Mapping | list):
            return [clean(item, getattr(feature, "feature", None)) for item in value]
        return value

    return lambda column, value: clean(value, (features or {}).get(column))


def may_be_filled(features: Mapping[str, Any] | None, column: str) -> bool:
    """Whether a column has mappings within mappings, in which what a table has filled up looks like what was there."""
    feature: Any = (features or {}).get(column)
    while getattr(feature, "feature", None) is not None:
        feature = feature.feature
    if not isinstance(feature, Mapping):
        return features is None
    datasets = library()
    return not all(isinstance(inner, datasets.Value | datasets.Json) for inner in feature.values())
