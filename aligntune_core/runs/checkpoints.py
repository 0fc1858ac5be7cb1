"""Checkpoints that are whole: written aside, hashed, made durable, then renamed; trusted only if every hash holds.

The libraries write straight into `checkpoint-N` and trust whatever lies there, so a kill while saving, a full
disk or a flipped bit end in a crash or in a silently wrong run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from aligntune_core.runs.storage import sync_folder, write_json, writing

MANIFEST = "manifest.json"
_NAME = re.compile(r"checkpoint-(\d+)\Z")


def _sha256(path: Path, *, sync: bool = False) -> str:
    import hashlib  # here, because checking a configuration does without it

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if sync:
            os.fsync(file.fileno())
    return digest


def commit(staged: Path, run_dir: Path, step: int) -> Path:
    """Take a complete checkpoint from `staged` into the run folder.

    Returns:
        `run_dir/checkpoint-<step>`.

    Raises:
        StorageError: it could not be kept; earlier checkpoints are intact.
    """
    target = run_dir / f"checkpoint-{step}"
    with writing(target):
        files = sorted(p for p in staged.rglob("*") if p.is_file())
        entries = {
            p.relative_to(staged).as_posix(): {"size": p.stat().st_size, "sha256": _sha256(p, sync=True)} for p in files
        }
        write_json(staged / MANIFEST, {"schema": 1, "step": step, "files": entries})
        sync_folder(staged)
        if target.exists():  # the same step again, after going back to an earlier checkpoint
            shutil.rmtree(target)
        staged.replace(target)
        sync_folder(run_dir)
    return target


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, or None where every file is as it was written."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text("utf-8"))
        entries = {str(name): (entry["size"], entry["sha256"]) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is missing or broken"
    for name, (size, sha256) in entries.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} bytes instead of {size:,}"
        if _sha256(path) != sha256:
            return f"{name} has changed since it was written"
    extra = {p.relative_to(checkpoint).as_posix() for p in checkpoint.rglob("*") if p.is_file()} - {*entries, MANIFEST}
    return f"{min(extra)} does not belong to it" if extra else None


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint folder's name, -1 where it is none."""
    match = _NAME.match(checkpoint.name)
    return int(match[1]) if match else -1


def checkpoints(run_dir: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    found = [p for p in run_dir.glob("checkpoint-*") if p.is_dir() and step_of(p) >= 0]
    return sorted(found, key=step_of, reverse=True)


def newest_good(run_dir: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint, and what is wrong with each newer one."""
    damaged: list[str] = []
    for checkpoint in checkpoints(run_dir):
        problem = damage(checkpoint)
        if problem is None:
            return checkpoint, damaged
        damaged.append(f"{checkpoint.name}: {problem}")
    return None, damaged


def rotate(run_dir: Path, keep: int, step: int) -> None:
    """Keep the checkpoint of `step`, which was just committed, and the newest before it, `keep` in all.

    Those of later steps are damaged, or of a course that the run has left by going back.
    """
    found = checkpoints(run_dir)
    kept = [c for c in found if step_of(c) <= step][:keep]
    for other in found:
        if other not in kept:
            shutil.rmtree(other, ignore_errors=True)
