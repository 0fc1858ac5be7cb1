"""The run folder: which folders may be used, who holds it, and files that are whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aligntune_core.errors import ConfigError, StorageError
from aligntune_core.runs import metrics
from aligntune_core.runs.folder import RunFolder, check_folder, default_folder, leaving_no_trace, read_run
from aligntune_core.runs.storage import is_storage_error, write_json, write_text

HOLD = """
import sys
from pathlib import Path
from aligntune_core.runs.folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
folder.open(overwrite=False)
print("held", flush=True)
sys.stdin.read()
"""


def run_in(path: Path) -> Path:
    folder = RunFolder(path)
    folder.open(overwrite=False)
    folder.write(status="finished")
    folder.close()
    return path


def refusal(path: Path, *, overwrite: bool = False) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        check_folder(path, overwrite=overwrite, resume=False)
    assert caught.value.field == "output_dir"
    return caught.value


def test_a_new_or_empty_folder_may_be_used_and_checking_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new", "deep/er/new"):
        check_folder(tmp_path / name, overwrite=False, resume=False)
    assert [p.name for p in tmp_path.rglob("*")] == ["empty"]


def test_another_run_is_refused_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    run = run_in(tmp_path / "run")
    assert "resume: true" in refusal(run).remedy
    check_folder(run, overwrite=True, resume=False)
    check_folder(run, overwrite=False, resume=True)


def test_a_folder_that_is_not_ours_is_never_used(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    refusal(tmp_path)
    refusal(tmp_path, overwrite=True)


@pytest.mark.parametrize("path", ["file", "file/run"])
def test_a_file_in_the_way_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    assert "is a file" in refusal(tmp_path / path).problem


def test_a_place_that_cannot_be_written_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match="output_dir"):
        check_folder(Path("/proc/run"), overwrite=False, resume=False)


def test_overwrite_removes_what_is_ours_and_nothing_else(tmp_path: Path) -> None:
    run = run_in(tmp_path / "run")
    (run / "checkpoint-5").mkdir()
    for name in ("metrics.jsonl", "log.txt", "notes.md", "checkpoint-5/x"):
        (run / name).touch()
    folder = RunFolder(run)
    folder.open(overwrite=True)
    folder.close()
    assert [p.name for p in run.iterdir()] == ["notes.md"]


def test_a_folder_that_another_process_holds_is_refused(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="another process is writing to it"):
            RunFolder(tmp_path / "run").open(overwrite=True)
        holder.communicate()
    run_in(tmp_path / "run")


def test_only_the_first_of_several_processes_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    run_in(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_closing_leaves_neither_lock_nor_staging(tmp_path: Path) -> None:
    assert [p.name for p in run_in(tmp_path / "run").iterdir()] == ["run.json"]


def test_default_folders_never_collide(in_tmp: Path) -> None:
    names = []
    for _ in range(3):
        names.append(default_folder("sft", "org/My Model!"))
        names[-1].mkdir(parents=True)
    assert len(set(names)) == 3
    assert all(n.parent == Path("runs") and "sft-My-Model" in n.name for n in names)


def test_overwriting_leaves_what_is_not_ours(tmp_path: Path) -> None:
    theirs = ["models", "model_notes.txt", "run.json.bak", "log.txt.old", "checkpoint-best", ".env.part"]
    run_in(tmp_path / "run")
    for name in theirs:
        (tmp_path / "run" / name).touch()
    folder = RunFolder(tmp_path / "run")
    folder.open(overwrite=True)
    folder.close()
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted(theirs)


def test_what_a_library_makes_in_passing_is_taken_away_again(in_tmp: Path) -> None:
    with leaving_no_trace(Path("runs/new")):
        Path("runs/new/.staging").mkdir(parents=True)
    assert not list(in_tmp.iterdir())


def test_a_folder_that_was_there_or_holds_something_stays(in_tmp: Path) -> None:
    Path("mine").mkdir()
    with leaving_no_trace(Path("mine")), leaving_no_trace(Path("used")):
        Path("mine/.staging").mkdir()
        Path("used").mkdir()
        Path("used/file").touch()
    assert {p.name for p in in_tmp.iterdir()} == {"mine", "used"}
    assert not list(Path("mine").iterdir())


@pytest.mark.parametrize("content", ["", "{", "[]", "\0"])
def test_a_broken_run_json_is_no_run(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content, "utf-8")
    assert read_run(tmp_path) is None


# files


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"a": "ä", "path": Path("x")})
    assert json.loads(path.read_text("utf-8")) == {"a": "ä", "path": "x"}
    path.unlink()
    path.mkdir()
    with pytest.raises(StorageError):
        write_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_the_disks_errors_are_told_from_others_however_deep() -> None:
    deep = RuntimeError("while saving")
    deep.__cause__ = OSError(28, os.strerror(28))
    assert is_storage_error(deep)
    assert not is_storage_error(FileNotFoundError(2, "x"))
    assert not is_storage_error(ValueError("x"))


def test_metrics_survive_strange_text_and_a_cut_off_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows: list[dict[str, object]] = [{"step": 1, "text": "a\u2028b\ud800"}, {"step": 2}]
    for row in rows:
        metrics.append(path, row)
    with path.open("a") as file:
        file.write('{"step": 3, "lo')
    assert metrics.read(path) == rows


def test_rewinding_drops_the_rows_after_a_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        metrics.append(path, {"step": step})
    metrics.rewind(path, 2)
    metrics.rewind(tmp_path / "none.jsonl", 2)
    assert metrics.read(path) == [{"step": 1}, {"step": 2}]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
