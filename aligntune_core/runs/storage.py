"""Writing files whole or not at all, and telling a full disk from other errors."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aligntune_core.errors import StorageError, gist

_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


FULL = 1
"""MiB below which a disk is called full."""


def is_storage_error(error: BaseException) -> bool:
    """Whether an error, or one under it, is the disk's."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _STORAGE:
            return True
        error = error.__cause__  # type: ignore[assignment]
    return False


def storage_error(path: Path, error: BaseException) -> StorageError:
    """The error for a file that could not be written, with what is left on the disk."""
    text, free = getattr(error, "strerror", None) or gist(error), ""
    with contextlib.suppress(OSError):
        stats = os.statvfs(next(p for p in (path, *path.parents) if p.exists()))
        left = stats.f_bavail * stats.f_frsize / 2**20
        text = "the disk is full" if left < FULL else text  # the libraries have their own words for that
        free = f", {left:,.0f} MiB are free there"
    remedy = "free space or choose another output_dir; the last good checkpoint is intact"
    return StorageError(f"cannot be written: {text}{free}", remedy, field="output_dir", value=str(path))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the disk's errors into `StorageError`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(path, error) from error


def is_replaceable(path: Path) -> bool:
    """Whether a saved model may be put there: nothing is there, or an empty folder, or a saved model and no more.

    Whatever else is in a folder is the user's.
    """
    if path.is_symlink() or not path.is_dir():
        return not (path.is_symlink() or path.exists())
    entries = list(path.iterdir())
    model = any(entry.name in ("config.json", "adapter_config.json") for entry in entries)
    return not entries or (model and all(entry.is_file() for entry in entries))


def sync_folder(path: Path) -> None:
    """Make renames in a folder durable, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old text or the new one.

    Raises:
        StorageError: it could not be written; the old file is intact.
    """
    part = path.with_name(f".{path.name}.part")
    with writing(path):
        try:
            with part.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Like `write_text`, for a mapping; what JSON has no word for is written as text."""
    write_text(path, json.dumps(content, indent=2, default=str, ensure_ascii=False) + "\n")
