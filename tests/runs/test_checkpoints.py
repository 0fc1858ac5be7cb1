"""Checkpoints: kept whole, trusted only while every byte is as it was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aligntune_core.errors import StorageError
from aligntune_core.runs.checkpoints import MANIFEST, checkpoints, commit, damage, newest_good, rotate, step_of


def make(run: Path, step: int) -> Path:
    """A committed checkpoint of two files."""
    staged = run / ".staging" / "any"
    (staged / "sub").mkdir(parents=True)
    (staged / "weights.bin").write_bytes(bytes(range(256)) + bytes([step]))
    (staged / "sub" / "state.json").write_text(f'{{"step": {step}}}', "utf-8")
    return commit(staged, run, step)


def flip(checkpoint: Path) -> None:
    content = bytearray((checkpoint / "weights.bin").read_bytes())
    content[7] ^= 1
    (checkpoint / "weights.bin").write_bytes(content)


def truncate(checkpoint: Path) -> None:
    (checkpoint / "weights.bin").write_bytes((checkpoint / "weights.bin").read_bytes()[:100])


def remove(checkpoint: Path) -> None:
    (checkpoint / "sub" / "state.json").unlink()


def add(checkpoint: Path) -> None:
    (checkpoint / "sub" / "extra").touch()


def break_manifest(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).write_text('{"files": {"weights.bin": 3}}', "utf-8")


def lose_manifest(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).unlink()


DAMAGES: dict[Callable[[Path], None], str] = {
    flip: "weights.bin has changed since it was written",
    truncate: "weights.bin has 100 bytes instead of 257",
    remove: "sub/state.json is missing",
    add: "sub/extra does not belong to it",
    break_manifest: "manifest.json is missing or broken",
    lose_manifest: "manifest.json is missing or broken",
}


def test_a_committed_checkpoint_is_whole_and_moved(tmp_path: Path) -> None:
    checkpoint = make(tmp_path, 5)
    assert checkpoint == tmp_path / "checkpoint-5"
    assert damage(checkpoint) is None
    assert not (tmp_path / ".staging" / "any").exists()


@pytest.mark.parametrize("harm", DAMAGES, ids=lambda harm: harm.__name__)
def test_each_kind_of_damage_is_found_and_named(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    checkpoint = make(tmp_path, 5)
    harm(checkpoint)
    assert damage(checkpoint) == DAMAGES[harm]


def test_the_newest_good_one_is_found_and_each_newer_is_named(tmp_path: Path) -> None:
    for step in (9, 10, 11):
        make(tmp_path, step)
    flip(tmp_path / "checkpoint-11")
    lose_manifest(tmp_path / "checkpoint-10")
    good, damaged = newest_good(tmp_path)
    assert good == tmp_path / "checkpoint-9"
    assert [line.split(":")[0] for line in damaged] == ["checkpoint-11", "checkpoint-10"]


def test_where_none_is_good_none_is_given(tmp_path: Path) -> None:
    assert newest_good(tmp_path) == (None, [])
    flip(make(tmp_path, 1))
    assert newest_good(tmp_path)[0] is None


def test_only_folders_of_that_name_count(tmp_path: Path) -> None:
    make(tmp_path, 2)
    (tmp_path / "checkpoint-3").touch()
    (tmp_path / "checkpoint-best").mkdir()
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-2"]
    assert step_of(tmp_path / "checkpoint-best") == -1


def test_the_same_step_again_replaces_the_old(tmp_path: Path) -> None:
    flip(make(tmp_path, 5))
    assert damage(make(tmp_path, 5)) is None


def test_rotation_keeps_the_newest(tmp_path: Path) -> None:
    for step in (8, 9, 10):
        make(tmp_path, step)
    rotate(tmp_path, 2, 10)
    assert [step_of(c) for c in checkpoints(tmp_path)] == [10, 9]


def test_rotation_never_removes_the_one_just_written(tmp_path: Path) -> None:
    for step in (3, 90, 100):
        make(tmp_path, step)
    rotate(tmp_path, 2, 3)
    assert [step_of(c) for c in checkpoints(tmp_path)] == [3]


def test_a_checkpoint_that_cannot_be_kept_harms_no_other(tmp_path: Path) -> None:
    make(tmp_path, 1)
    with pytest.raises(StorageError):
        commit(tmp_path / "never-written", tmp_path, 2)
    assert [step_of(c) for c in checkpoints(tmp_path)] == [1]
    assert newest_good(tmp_path)[0] == tmp_path / "checkpoint-1"
