"""Going on with a run, through the public door: what is used, what is refused, and what stays untouched."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligntune import Trainer
from aligntune_core.errors import ConfigError
from aligntune_core.plugins import load_registry
from aligntune_core.plugins.fingerprint import fingerprint
from aligntune_core.runs import metrics
from aligntune_core.runs.checkpoints import checkpoints, damage
from aligntune_core.testing import FakeBackend

Start = Callable[..., Trainer]
RUN = Path("run")


def stop(step: int) -> None:
    if step == 5:
        raise RuntimeError("killed")


@pytest.fixture
def stopped(start: Start) -> Path:
    """A run that failed in step 5, with checkpoints of steps 2 and 4."""
    with pytest.raises(RuntimeError, match="killed"):
        start(FakeBackend(on_step=stop)).train()
    return RUN


def steps_of_going_on(start: Start, **settings: Any) -> list[int]:
    """The steps that are trained when a run goes on."""
    trained: list[int] = []
    start(FakeBackend(on_step=trained.append), **settings).train()
    return trained


def refusal(start: Start, **settings: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        start(**settings)
    return caught.value


def digest(folder: Path) -> str:
    """Names, bytes and times of all that is in a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        total.update(f"{path} {path.stat().st_mtime_ns} ".encode() + content)
    return total.hexdigest()


def flip(path: Path) -> None:
    path.write_bytes(bytes(b ^ 1 for b in path.read_bytes()))


# where it goes on


@pytest.mark.parametrize("resume", [True, "auto", "true", "run"])
def test_it_goes_on_from_the_newest_checkpoint(start: Start, stopped: Path, resume: object) -> None:
    assert steps_of_going_on(start, resume=resume) == [5, 6]
    assert [row["step"] for row in metrics.read(RUN / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_it_goes_on_from_a_named_checkpoint(start: Start, stopped: Path) -> None:
    assert steps_of_going_on(start, resume="run/checkpoint-2") == [3, 4, 5, 6]
    assert [row["step"] for row in metrics.read(RUN / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_a_folder_is_enough_to_go_on(start: Start, stopped: Path) -> None:
    nothing = dict.fromkeys(["model_name", "dataset_name", "output_dir", "max_steps", "save_steps", "logging_steps"])
    assert steps_of_going_on(start, resume="run", **nothing) == [5, 6]


def test_auto_starts_where_there_is_nothing_to_go_on_from(start: Start) -> None:
    assert steps_of_going_on(start, resume="auto") == [1, 2, 3, 4, 5, 6]


def test_true_wants_a_run(start: Start) -> None:
    assert "give the folder of a run" in refusal(start, resume=True).remedy
    assert not RUN.exists()


def test_what_is_longer_than_it_was_is_another_run(start: Start, stopped: Path) -> None:
    error = refusal(start, resume=True, max_steps=8, seed=1, output_dir="run")
    assert [(p.field, p.value) for p in error.problems] == [("max_steps", "8"), ("seed", "1")]
    assert error.problem == "the run that is resumed has 6"


def test_changed_rows_are_another_run(start: Start, stopped: Path, chat_file: Path) -> None:
    with chat_file.open("a") as file:
        file.write('{"prompt": "new", "completion": "row"}\n')
    assert "dataset_name" in str(refusal(start, resume=True).field)


def test_another_backend_is_another_run(start: Start, stopped: Path) -> None:
    run = json.loads((RUN / "run.json").read_text("utf-8"))
    run["selection"]["backend"] = "other"
    (RUN / "run.json").write_text(json.dumps(run), "utf-8")
    assert refusal(start, resume=True).field == "backend"


def test_where_the_folder_lies_does_not_matter(start: Start, stopped: Path) -> None:
    RUN.rename("moved")
    assert steps_of_going_on(start, resume=True, output_dir="moved") == [5, 6]


# damage


def test_a_damaged_newest_is_named_and_the_one_before_is_used(
    start: Start, stopped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flip(RUN / "checkpoint-4" / "state.json")
    assert steps_of_going_on(start, resume=True) == [3, 4, 5, 6]
    assert "checkpoint-4: state.json has changed since it was written" in caplog.text
    assert [damage(c) for c in checkpoints(RUN)] == [None, None]


def test_a_damaged_one_that_is_named_is_refused_with_the_good_ones(start: Start, stopped: Path) -> None:
    flip(RUN / "checkpoint-4" / "state.json")
    assert refusal(start, resume="run/checkpoint-4").remedy == "the good ones are checkpoint-2"


def test_without_a_good_one_true_is_refused_and_auto_starts_again(start: Start, stopped: Path) -> None:
    for step in (2, 4):
        flip(RUN / f"checkpoint-{step}" / "state.json")
    assert "checkpoint-4: state.json has changed" in refusal(start, resume=True).problem
    assert steps_of_going_on(start, resume="auto", save_total_limit=1) == [1, 2, 3, 4, 5, 6]
    assert [(c.name, damage(c)) for c in checkpoints(RUN)] == [("checkpoint-6", None)]


# what stays as it is


def test_a_finished_run_is_finished_and_nothing_is_written(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    with start() as trainer:
        first = trainer.train()
    before, fake = digest(RUN), FakeBackend()
    with caplog.at_level(logging.INFO, "aligntune"), start(fake, resume=True) as trainer:
        again = trainer.train()
    assert digest(RUN) == before
    assert (again.steps, again.final_loss, again.metrics) == (first.steps, first.final_loss, first.metrics)
    assert again.model_path is not None
    assert again.model_path.samefile(RUN / "model")
    assert not fake.requests
    assert "already finished" in caplog.text


def test_a_finished_run_is_not_loaded_and_says_what_to_do(start: Start) -> None:
    start().train()
    with pytest.raises(ConfigError, match="set model_name to run/model"):
        start(resume="auto").predict("Hi")


def test_a_finished_run_with_other_settings_is_another_run(start: Start) -> None:
    start().train()
    assert refusal(start, resume="auto", max_steps=9).field == "max_steps"


def test_the_folder_of_another_run_is_refused_untouched(start: Start, stopped: Path) -> None:
    before = digest(RUN)
    assert "holds another run" in refusal(start).problem
    assert digest(RUN) == before


def test_a_checkpoint_of_another_run_is_refused(start: Start, stopped: Path) -> None:
    RUN.rename("other")
    with pytest.raises(RuntimeError, match="killed"):
        start(FakeBackend(on_step=stop)).train()
    assert "another run's" in refusal(start, resume="other/checkpoint-2").problem


def test_overwrite_starts_anew(start: Start, stopped: Path) -> None:
    assert steps_of_going_on(start, overwrite=True) == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in metrics.read(RUN / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


HOLD = """
import sys
from filelock import FileLock
lock = FileLock("run/.lock")
lock.acquire(timeout=0)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_run_that_another_process_is_writing_is_refused_untouched(start: Start, stopped: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        before = digest(RUN)
        assert refusal(start, resume=True).problem == "another process is writing to it"
        assert digest(RUN) == before
        holder.communicate()
    assert start(resume=True).train().steps == 6


# the plugins that a run was made with


PLUGIN = "from aligntune_core.testing import FakeBackend\nplugin = FakeBackend()\n"


def test_run_json_holds_what_was_installed(
    install_plugin: Callable[..., Path], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNTUNE_PLUGINS", "one")
    file = install_plugin("one", PLUGIN, attribute="plugin", version="2.1")
    (found,) = load_registry().snapshot()
    sha256 = found.pop("sha256")
    assert found == {
        "name": "one", "distribution": "aligntune-one", "version": "2.1", "entry_point": "aligntune_one_plugin:plugin",
    }  # fmt: skip
    fingerprint.cache_clear()
    file.write_text(PLUGIN + "# changed\n", "utf-8")
    assert load_registry().snapshot()[0]["sha256"] != sha256
    start().train()
    assert json.loads((RUN / "run.json").read_text("utf-8"))["plugins"][0]["name"] == "fake"


def test_a_plugin_that_has_changed_since_is_told_field_by_field(
    start: Start, stopped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = json.loads((stopped / "run.json").read_text("utf-8"))
    run["plugins"][0] |= {"version": "0.9", "distribution": "other", "sha256": "0" * 64}
    run["plugins"].append({"name": "gone", "distribution": "aligntune-gone", "version": "1"})
    (stopped / "run.json").write_text(json.dumps(run), "utf-8")
    start(resume=True).train()
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert told == [
        "the distribution of the plugin 'fake' was other when this run started and is aligntune-fake now",
        "the version of the plugin 'fake' was 0.9 when this run started and is 1.0 now",
        "the code of the plugin 'fake' has changed since this run started",
        "the plugin 'gone' was installed when this run started and is not now",
    ]


def test_plugins_that_are_the_same_are_not_told(start: Start, stopped: Path, caplog: pytest.LogCaptureFixture) -> None:
    start(resume=True).train()
    assert not [r for r in caplog.records if "when this run started" in r.getMessage()]
