"""What a `dataset_name` means: a file, a folder of files, a pattern such as data/*.jsonl, or a name on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aligntune_core.errors import DataError

BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
HUB_NAME = re.compile(r"[\w][\w.-]{0,95}(/[\w][\w.-]{0,95})?\Z")


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from. `files` and `builder` are empty for a hub name."""

    name: str
    kind: Literal["files", "hub"]
    files: tuple[Path, ...] = ()
    builder: str = ""

    def sha256(self) -> str | None:
        """One digest over the files' names and bytes; None for a hub name."""
        if not self.files:
            return None
        import hashlib  # here, because checking a configuration does without it

        total = hashlib.sha256()
        for path in self.files:
            total.update(path.name.encode() + b"\0")
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()


def looks_like_path(name: str) -> bool:
    """Whether a name that does not exist was meant as a path, not as a hub name."""
    return name.startswith((".", "/", "~", "\\")) or name.count("/") > 1 or Path(name).suffix.lower() in BUILDERS


def close_to(name: str) -> str | None:
    import difflib  # only a wrong name needs it

    """A remedy for a path that does not exist: what is there with a like name, in the same folder."""
    path = Path(name).expanduser()
    try:
        siblings = [p.name for p in path.parent.iterdir()]
    except OSError:
        siblings = []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"did you mean '{path.with_name(close[0])}'?" if close else None


def _missing(name: str, field: str) -> DataError:
    if Path(name).expanduser().is_symlink():
        return DataError("this is a link that leads nowhere", "mend the link", field=field, value=name)
    remedy = close_to(name) or "give an existing file, folder or hub name"
    return DataError("this file does not exist", remedy, field=field, value=name)


def _several(name: str, paths: Iterable[Path], what: str, field: str) -> Source:
    """The data files among these paths, in the order of their names; `what` they are from."""
    files = tuple(sorted(p for p in paths if p.is_file() and p.suffix.lower() in BUILDERS))
    builders = sorted({BUILDERS[p.suffix.lower()] for p in files})
    if not files:
        raise DataError(
            f"this {what} has no JSONL, JSON, CSV or Parquet file", "name the file", field=field, value=name
        )
    if len(builders) > 1:
        problem = f"this {what} mixes {' and '.join(builders)} files"
        raise DataError(problem, f"name one file, or keep one kind in the {what}", field=field, value=name)
    return Source(name, "files", files, builders[0])


def _matching(pattern: str) -> list[Path]:
    import glob  # only a pattern needs it

    found = glob.glob(str(Path(pattern).expanduser()), recursive=True)  # noqa: PTH207 - of absolute patterns too
    return [Path(name) for name in found]


def find_source(name: str, field: str = "dataset_name") -> Source:
    """Resolve a name without reading any row.

    Raises:
        DataError: a path that does not exist, a folder without data, a kind of file that is not read.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _several(name, path.rglob("*"), "folder", field)
    if path.exists():
        builder = BUILDERS.get(path.suffix.lower())
        if builder is None:
            problem = f"'{path.suffix or path.name}' is no kind of file that is read"
            raise DataError(problem, "use .jsonl, .json, .csv or .parquet", field=field, value=name)
        return Source(name, "files", (path,), builder)
    if set(name) & set("*?["):
        return _several(name, _matching(name), "pattern", field)
    if looks_like_path(name) or path.is_symlink():
        raise _missing(name, field)
    if not HUB_NAME.match(name):
        remedy = "a hub name is 'name' or 'owner/name'"
        raise DataError("is neither a file nor a hub name", remedy, field=field, value=name)
    return Source(name, "hub")
