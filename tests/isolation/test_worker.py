"""A backend that trains in a worker: the run is the same, and whatever happens there is told here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligntune import Trainer, get_trainer
from aligntune_core.cli.main import run as command_line
from aligntune_core.errors import (
    ConfigError,
    DataError,
    DivergedError,
    PluginContractError,
    RunInterrupted,
    WorkerDiedError,
)
from aligntune_core.runs.checkpoints import checkpoints

CODE = """
import os, signal, sys, time
from pathlib import Path
from aligntune_core import DataError, DivergedError, Isolation, hookimpl
from aligntune_core.testing import FakeBackend

def happen(step):
    {happen}

def preloaded():
    return {preload!r}

class Alone(FakeBackend):
    @hookimpl
    def isolation(self, folder):
        return Isolation(own_process=True, preload=preloaded(), environ={{"ALONE_CACHE": str(folder)}})

plugin = Alone(on_step=happen, loss=lambda step: {loss})
"""
Start = Callable[..., Trainer]


@pytest.fixture
def start(install_plugin: Any, in_tmp: Path, fake_model: Path, chat_file: Path) -> Start:
    """A trainer of a backend that trains in a worker, in whose loop something happens."""

    def make(happen: str = "pass", preload: tuple[str, ...] = (), loss: str = "1 / step", **settings: Any) -> Trainer:
        code = CODE.format(happen=textwrap.indent(happen, "    ").strip(), preload=preload, loss=loss)
        install_plugin("alone", code, attribute="plugin")
        given = {
            "model_name": str(fake_model), "dataset_name": str(chat_file), "max_steps": 6, "save_steps": 2,
            "logging_steps": 1, "output_dir": "run",
        }  # fmt: skip
        return get_trainer("sft", "alone", **given | settings)

    return make


def rows(folder: Path) -> list[dict[str, Any]]:
    """The numbers of a run, without the time of day."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name != "time"} for row in found]


def test_a_run_is_the_same_in_a_worker_and_here(start: Start) -> None:
    results = {}
    for isolation in ("auto", "none"):
        with start(isolation=isolation, output_dir=isolation, eval_fraction=0.25) as trainer:
            result = trainer.train()
            answers = trainer.evaluate(), trainer.predict(["a question"]), result.final_loss, dict(trainer.resolved)
            answers[3].pop("isolation"), answers[3].pop("output_dir")
            saved = trainer.save_model(f"{isolation}-saved")
        files = sorted(p.name for p in Path(isolation).iterdir())
        results[isolation] = rows(Path(isolation)), answers, files, (saved / "state.json").read_text("utf-8")
    assert results["auto"] == results["none"]


def test_any_backend_trains_in_a_worker_where_that_is_set(start: Start) -> None:
    with start("print('pid', os.getpid(), flush=True)", isolation="process") as trainer:
        trainer.train()
    assert f"pid {os.getpid()}" not in Path("run/worker.log").read_text("utf-8")


def test_what_a_worker_prints_is_in_a_file_and_what_it_logs_in_the_log(start: Start, capfd: Any) -> None:
    happen = "import logging\nprint('a banner')\nlogging.getLogger('aligntune').info('step %d', step)"
    with start(happen) as trainer:
        trainer.listen()
        trainer.train()
    assert "a banner" in Path("run/worker.log").read_text("utf-8")
    assert "INFO aligntune: step 3" in Path("run/log.txt").read_text("utf-8")
    assert capfd.readouterr().out == ""


def test_a_worker_begins_with_the_variables_of_the_start_and_with_the_users_of_now(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PATCHED_BY_A_LIBRARY", "ALIGNTUNE_TOLD_NOW", "HF_TOKEN"):
        monkeypatch.setenv(name, "told now")
    happen = "print(sorted(name for name, value in os.environ.items() if value == 'told now'))"
    with start(happen) as trainer:
        trainer.train()
    assert Path("run/worker.log").read_text("utf-8").splitlines()[0] == "['ALIGNTUNE_TOLD_NOW', 'HF_TOKEN']"


def test_what_its_libraries_keep_is_in_the_run_folder_and_gone_at_the_end(start: Start) -> None:
    happen = "folder = Path(os.environ['ALONE_CACHE'])\nfolder.mkdir(exist_ok=True)\n(folder / str(step)).touch()"
    with start(happen) as trainer:
        trainer.train()
        assert len(list(Path("run/.caches").iterdir())) == 6
    assert not Path("run/.caches").exists()


@pytest.mark.parametrize(
    ("happen", "kind", "text"),
    [
        ("raise DataError('has a hole', 'mend it', field='rows', value=3)", DataError, "rows = 3: has a hole; mend it"),
        ("raise ZeroDivisionError('by nothing')", ZeroDivisionError, "by nothing"),
        ("raise type('OutOfMemoryError', (RuntimeError,), {})('no room')", RuntimeError, "OutOfMemoryError: no room"),
        ("raise SystemExit(7)", PluginContractError, "tried to end the process with 7"),
    ],
    ids=["ours", "Python's", "a library's", "an exit"],
)  # fmt: skip
def test_an_error_there_is_the_same_error_here(start: Start, happen: str, kind: type, text: str) -> None:
    with start(f"if step == 3:\n    {happen}") as trainer, pytest.raises(kind) as caught:
        trainer.train()
    assert text in str(caught.value)
    assert json.loads(Path("run/run.json").read_text("utf-8"))["status"] == "failed"
    assert "in happen" in "".join(str(caught.value.__cause__))


def test_the_traceback_of_the_worker_is_in_the_run_folder(start: Start) -> None:
    happen = "if step == 3:\n    raise DataError('has a hole', 'mend it')"
    with start(happen) as trainer, pytest.raises(DataError):
        trainer.train()
    assert "in happen" in Path("run/worker.log").read_text("utf-8")


def test_a_loss_that_is_not_finite_ends_the_loop_there(start: Start) -> None:
    trainer = start("print('step', step)", loss="1 / step if step < 4 else float('nan')")
    with trainer, pytest.raises(DivergedError, match="loss = nan: is not finite at step 4"):
        trainer.train()
    said = Path("run/worker.log").read_text("utf-8").splitlines()
    assert [line for line in said if line.startswith("step ")] == ["step 1", "step 2", "step 3", "step 4"]


def test_a_killed_worker_is_an_error_at_once_and_the_run_goes_on_from_its_checkpoint(start: Start) -> None:
    began = time.monotonic()
    with start("if step == 5 and not Path('again').exists():\n    os.kill(os.getpid(), signal.SIGKILL)") as trainer:
        with pytest.raises(WorkerDiedError, match="was ended by SIGKILL") as caught:
            trainer.train()
        with pytest.raises(WorkerDiedError):
            trainer.predict(["a question"])
    assert time.monotonic() - began < 10
    assert caught.value.exit_code == 3
    assert checkpoints(Path("run"))[0].name == "checkpoint-4"
    Path("again").touch()
    with start(resume=True) as trainer:
        assert trainer.train().steps == 6


def test_ctrl_c_saves_stops_and_the_resumed_run_ends_as_if_it_never_came(start: Start) -> None:
    with start(output_dir="whole") as trainer:
        trainer.train()
    trainer = start(f"if step == 3:\n    os.kill({os.getpid()}, signal.SIGINT)\n    time.sleep(0.5)")
    with trainer, pytest.raises(RunInterrupted):
        trainer.train()
    with start(resume=True) as trainer:
        trainer.train()
    assert rows(Path("run")) == rows(Path("whole"))


def test_a_worker_ends_when_its_parent_is_gone(start: Start) -> None:
    trainer = start("time.sleep(0.2)\nPath('pid').write_text(str(os.getpid()))")
    given = trainer._plan.config.given
    trainer.close()
    code = f"""
import os, signal, sys
sys.path[:] = {sys.path!r}
from aligntune import get_trainer
from aligntune_core import Callback
class Die(Callback):
    def step(self, step):
        os.kill(os.getpid(), signal.SIGKILL)
trainer = get_trainer("sft", "alone", **{given!r})
trainer.listen(Die())
trainer.train()
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    pid = int(Path("pid").read_text("utf-8"))
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.1)
    raise AssertionError("the worker lives on")


# what cannot go over


def test_an_open_model_is_refused_with_the_remedy(start: Start) -> None:
    with pytest.raises(ConfigError, match=r"model: is open in this process, .*; give model_name"):
        start(model=object(), model_name=None)


def test_the_librarys_trainer_is_not_here(start: Start) -> None:
    with start() as trainer, pytest.raises(ConfigError, match="the library's trainer is in a worker process"):
        assert trainer.native


def test_a_module_that_cannot_be_imported_there_is_told(start: Start) -> None:
    with pytest.raises(ImportError, match="no_such_module"):
        start(preload=("no_such_module",))
    assert not Path("run").exists()


def test_rows_in_memory_go_over(start: Start) -> None:
    given = [{"prompt": "What? ", "completion": "That."} for _ in range(8)]
    with start(train_dataset=given, dataset_name=None) as trainer:
        assert trainer.train().steps == 6


def test_the_command_line_ends_with_the_code_of_a_worker_that_died(start: Start, capsys: Any) -> None:
    trainer = start("os.kill(os.getpid(), signal.SIGKILL)")
    given = trainer._plan.config.given
    trainer.close()
    flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    assert command_line(["train", "--backend", "alone", *flags]) == 3
    assert "was ended by SIGKILL" in capsys.readouterr().err
