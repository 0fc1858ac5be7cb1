"""A run from beginning to end, and every other way in which it may end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from aligntune import Trainer
from aligntune_core import hookimpl
from aligntune_core.cli.output import hide_messages, show_messages
from aligntune_core.errors import (
    ConfigError,
    DivergedError,
    PluginContractError,
    RunInterrupted,
    StorageError,
)
from aligntune_core.runs import metrics
from aligntune_core.runs.checkpoints import checkpoints, damage
from aligntune_core.testing import FakeBackend, FakeTrainer
from aligntune_core.values import Callback, RunEvents

Start = Callable[..., Trainer]
RUN = Path("run")


def run_json() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RUN / "run.json").read_text("utf-8"))
    return content


def at(step: int, action: Callable[[], object]) -> FakeBackend:
    """A backend in whose loop something happens at a step."""

    def on_step(now: int) -> None:
        if now == step:
            action()

    return FakeBackend(on_step=on_step)


def throw(error: BaseException) -> Callable[[], object]:
    def raise_it() -> object:
        raise error

    return raise_it


# to the end


def test_a_finished_run_has_every_field_of_the_contract(start: Start, chat_file: Path) -> None:
    start(eval_fraction=0.25).train()
    run = run_json()
    assert {"schema", "run_id", "versions", "plugins", "resolved"} <= set(run)
    assert (run["status"], run["algorithm"], run["seed"]) == ("finished", "sft", 42)
    assert (run["steps_planned"], run["steps_done"]) == (6, 6)
    assert run["config"]["batch_size"] == 4
    assert set(run["given"]) == {
        "model_name", "dataset_name", "output_dir", "max_steps", "save_steps", "logging_steps", "eval_fraction",
    }  # fmt: skip
    assert run["data"] | {"sha256": ""} == {"source": str(chat_file), "rows": 6, "sha256": ""}
    assert len(run["data"]["sha256"]) == 64
    assert run["selection"]["backend"] == "fake"
    assert run["selection"]["asked"] == "auto"
    assert {r["backend"] for r in run["selection"]["rejected"]} == {"trl", "unsloth"}
    assert run["resolved"]["learning_rate"] == 2e-5
    assert (Path(run["model_path"]) / "state.json").exists()


def test_a_row_of_metrics_has_the_fields_of_the_contract(start: Start) -> None:
    before = time.time()
    start().train()
    rows = metrics.read(RUN / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0] | {"time": 0} == {"step": 1, "epoch": round(1 / 6, 6), "time": 0, "split": "train", "loss": 1.0}
    assert before <= rows[0]["time"] <= rows[-1]["time"] <= time.time()


def test_the_result_says_how_it_ended(start: Start) -> None:
    result = start().train()
    assert (result.steps, result.epochs) == (6, 1.0)
    assert result.final_loss == pytest.approx(1 / 6)
    assert result.metrics == metrics.read(RUN / "metrics.jsonl")[-1]
    assert (result.model_path, result.run_dir) == (RUN / "model", RUN)
    assert result.seconds > 0


def test_a_finished_folder_holds_nothing_else(start: Start) -> None:
    with start() as trainer:
        trainer.train()
    names = {p.name for p in RUN.iterdir()} - {"report.html"}
    assert names == {"run.json", "metrics.jsonl", "samples.jsonl", "log.txt", "model", "checkpoint-4", "checkpoint-6"}


def test_only_whole_checkpoints_are_kept_and_no_more_than_asked(start: Start) -> None:
    start(save_steps=1, save_total_limit=3).train()
    assert [c.name for c in checkpoints(RUN)] == ["checkpoint-6", "checkpoint-5", "checkpoint-4"]
    assert [damage(c) for c in checkpoints(RUN)] == [None] * 3


def test_the_log_tells_the_choice_of_the_backend_too(start: Start) -> None:
    start().train()
    assert "sft: backend fake (chosen by auto)" in (RUN / "log.txt").read_text("utf-8")


def test_the_trainer_evaluates_predicts_and_saves(start: Start) -> None:
    with start(eval_fraction=0.25) as trainer:
        trainer.train()
        assert trainer.evaluate() == {"eval_loss": pytest.approx(1 / 7)}
        assert trainer.predict("Hi?") == trainer.predict(["Hi?"]) == ["answer 6"]
        assert (trainer.save_model("elsewhere") / "state.json").exists()
        assert trainer.resolved["learning_rate"] == 2e-5


def test_without_evaluation_rows_there_is_nothing_to_evaluate(start: Start) -> None:
    with pytest.raises(ConfigError, match="eval_fraction"):
        start().evaluate()


def test_a_trainer_trains_once(start: Start) -> None:
    trainer = start()
    trainer.train()
    before = run_json()
    with pytest.raises(ConfigError, match="trained already"):
        trainer.train()
    assert run_json() == before
    assert trainer.train(resume=True).steps == 6


def test_push_to_hub_needs_a_saved_model(start: Start) -> None:
    with pytest.raises(ConfigError, match="train first"):
        start().push_to_hub("me/model")


def test_what_shows_a_run_hears_every_step_and_row(start: Start) -> None:
    heard: list[object] = []

    class Listener(Callback):
        def start(self, first: int, steps_planned: int) -> None:
            heard.append((first, steps_planned))

        def step(self, step: int) -> None:
            heard.append(step)

        def row(self, row: Mapping[str, Any]) -> None:
            heard.append(row["loss"])

        def stop(self) -> None:
            heard.append("stop")

        def end(self, status: str) -> None:
            heard.append(status)

    trainer = start(max_steps=2)
    trainer.listen(Listener())
    trainer.train()
    assert heard == [(0, 2), 1, 1.0, 2, 0.5, "stop", "finished"]


def test_plain_progress_goes_to_standard_error(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = start(max_steps=2)
    trainer._listeners = None
    trainer.train()
    out, err = capsys.readouterr()
    assert out == ""
    assert "step 2/2  loss 0.5" in err


# other ends


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_stops_within_the_step(start: Start, bad: float) -> None:
    trainer = start(FakeBackend(loss=lambda step: bad if step == 4 else 1.0))
    with pytest.raises(DivergedError, match="learning_rate") as caught:
        trainer.train()
    assert (caught.value.exit_code, caught.value.field) == (5, "loss")
    assert (run_json()["status"], run_json()["steps_done"]) == ("failed", 4)
    assert [c.name for c in checkpoints(RUN)] == ["checkpoint-2"]
    assert metrics.read(RUN / "metrics.jsonl")[-1]["loss"] is None
    assert not (RUN / "model").exists()


class Reports(FakeBackend):
    """Its loop reports these numbers."""

    def __init__(self, values: Mapping[str, float]) -> None:
        super().__init__()
        self._values = values

    @hookimpl
    def build_trainer(self, request: Any) -> Any:
        values = self._values

        class Trainer(FakeTrainer):
            def train(self, events: RunEvents) -> None:
                events.start(1)
                events.step(1)
                events.metrics(1, values, epoch=1.0)

        return Trainer(request, lambda step: None, lambda step: 1.0)


@pytest.mark.parametrize("name", ["loss", "grad_norm", "reward"])
def test_each_number_that_must_be_finite_stops_the_run_whatever_else_is_not(start: Start, name: str) -> None:
    with pytest.raises(DivergedError) as caught:
        start(Reports({name: float("nan"), "a_ratio": float("inf")}), max_steps=1).train()
    assert caught.value.field == name


def test_another_number_that_is_not_finite_is_only_null(start: Start) -> None:
    start(Reports({"loss": 1.0, "a_ratio": float("inf")}), max_steps=1).train()
    assert metrics.read(RUN / "metrics.jsonl")[0]["a_ratio"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_how_to_go_on_and_the_run_finishes_later(start: Start, number: signal.Signals) -> None:
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(RunInterrupted, match="aligntune train --resume run") as caught:
        start(at(3, lambda: signal.raise_signal(number))).train()
    assert caught.value.exit_code == 128 + number
    assert (run_json()["status"], run_json()["steps_done"]) == ("interrupted", 3)
    assert checkpoints(RUN)[0].name == "checkpoint-3"
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    assert start(resume=True).train().steps == 6
    assert run_json()["status"] == "finished"
    assert [row["step"] for row in metrics.read(RUN / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


@pytest.fixture
def python_handles_ctrl_c() -> Iterator[None]:
    """Also where this process was started in the background, which ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_handles_ctrl_c")
def test_a_second_ctrl_c_stops_at_once(start: Start) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        start(at(3, twice)).train()
    assert not isinstance(caught.value, RunInterrupted)
    assert run_json()["status"] == "interrupted"
    assert checkpoints(RUN)[0].name == "checkpoint-2"


def test_a_signal_in_the_last_step_is_a_finished_run(start: Start) -> None:
    assert start(at(6, lambda: signal.raise_signal(signal.SIGTERM))).train().steps == 6
    assert run_json()["status"] == "finished"


def test_a_bug_in_the_loop_is_recorded_with_its_traceback(start: Start) -> None:
    with pytest.raises(ZeroDivisionError):
        start(at(3, throw(ZeroDivisionError("oops")))).train()
    assert (run_json()["status"], run_json()["error"]) == ("failed", "oops")
    assert "Traceback" in (RUN / "log.txt").read_text("utf-8")
    assert not (RUN / ".lock").exists()


def test_a_loop_that_calls_exit_does_not_look_like_success(start: Start) -> None:
    with pytest.raises(PluginContractError, match="tried to end the process with 0"):
        start(at(3, throw(SystemExit(0)))).train()
    assert run_json()["status"] == "failed"


class Lazy(FakeBackend):
    """Its loop gives up without a word."""

    @hookimpl
    def build_trainer(self, request: Any) -> Any:
        class Trainer(FakeTrainer):
            def train(self, events: RunEvents) -> None:
                events.start(6)
                events.step(1)

        return Trainer(request, lambda step: None, lambda step: 1.0)


def test_a_loop_that_ends_early_is_not_finished(start: Start) -> None:
    with pytest.raises(PluginContractError, match="after step 1 of 6"):
        start(Lazy()).train()
    assert run_json()["status"] == "failed"


FULL_DISK = """
import json, resource, sys
from aligntune_core import installed
from aligntune_core.testing import FakeBackend, fake_entry, make_registry
from aligntune_core.cli.main import run

def fill(step):
    if step == 5:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

registry = make_registry(fake_entry("fake", FakeBackend(on_step=fill)))
installed.load_registry = lambda: registry
sys.exit(run(sys.argv[1:]))
"""


def test_a_full_disk_is_exit_6_with_the_last_good_checkpoint_intact(
    fake_model: Path, chat_file: Path, in_tmp: Path
) -> None:
    flags = ["--output-dir=run", "--max-steps=6", "--save-steps=2", "--logging-steps=9", "--quiet"]
    command = [sys.executable, "-c", FULL_DISK, "train", f"--model-name={fake_model}", f"--dataset-name={chat_file}"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr
    assert "the last good checkpoint is intact" in done.stderr
    assert "Traceback" not in done.stderr
    assert [(c.name, damage(c)) for c in checkpoints(RUN)] == [("checkpoint-4", None), ("checkpoint-2", None)]
    assert run_json()["steps_done"] == 4
    assert not list(RUN.glob(".*"))


def test_a_model_that_cannot_be_saved_is_a_storage_error(start: Start) -> None:
    Path("file").touch()
    with start() as trainer, pytest.raises(StorageError, match="Not a directory"):
        trainer.save_model("file/model")


def test_a_folder_that_is_no_model_is_never_replaced_whichever_backend_saves(start: Start) -> None:
    Path("thesis").mkdir()
    Path("thesis/chapter.txt").write_text("years of work", "utf-8")
    Path("link").symlink_to("thesis")
    Path("file").touch()
    with start() as trainer:
        for name in ("thesis", "link", "file"):
            with pytest.raises(ConfigError, match=f"path = '{name}': is no folder of a saved model"):
                trainer.save_model(name)
        assert trainer.save_model("model") == trainer.save_model("model")
    assert [p.name for p in Path("thesis").iterdir()] == ["chapter.txt"]


def test_a_run_that_came_into_the_folder_meanwhile_is_not_replaced(start: Start) -> None:
    first, second = start(), start()
    first.train()
    with pytest.raises(ConfigError, match="another run has come into the folder"):
        second.train()
    with pytest.raises(ConfigError, match="another run has come into the folder"):
        second.train(resume=False)
    assert run_json()["status"] == "finished"


def test_resuming_wins_over_overwriting(start: Start) -> None:
    with pytest.raises(RunInterrupted):
        start(at(3, lambda: signal.raise_signal(signal.SIGTERM))).train()
    assert start(overwrite=True).train(resume="true").steps == 6
    assert [row["step"] for row in metrics.read(RUN / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_a_report_that_cannot_be_drawn_is_a_line_here_and_a_traceback_in_the_log(
    start: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = start()
    (trainer.run_dir / "report.html").mkdir(parents=True)
    show_messages()
    try:
        trainer.train()
    finally:
        hide_messages()
    told = [line for line in capsys.readouterr().err.splitlines() if "no report.html" in line]
    assert told[0].startswith("warning: no report.html: StorageError: output_dir = ")
    assert "IsADirectoryError" in (trainer.run_dir / "log.txt").read_text("utf-8")
