"""Streaming through TRL: the same training from the same row on, and what is told of rows that do not fit."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from aligntune_trl import token_stream
from safetensors.torch import load_file

from aligntune_core import Callback, ConfigError, DataError, RunInterrupted
from aligntune_core.data import stream
from aligntune_core.runs.checkpoints import damage, newest_good
from aligntune_core.runs.folder import read_run
from aligntune_core.runs.metrics import read


@pytest.fixture
def streamed(make, tmp_path):
    """A trainer on rows that are streamed."""

    def build(rows: list[dict[str, Any]] | None = None, **settings: Any):
        path = tmp_path / "streamed.jsonl"
        if rows is not None:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
            settings["dataset_name"] = str(path)
        return make(streaming=True, **{"max_steps": 8, **settings})

    return build


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "model" / "model.safetensors")


def losses(run_dir: Path) -> list[float]:
    return [row["loss"] for row in read(run_dir / "metrics.jsonl") if row["split"] == "train"]


def stop_at(trainer, step: int) -> None:
    class Sender(Callback):
        def step(self, done):
            if done == step:
                signal.raise_signal(signal.SIGINT)

    trainer.listen(Sender())


def test_a_resumed_stream_goes_on_at_the_same_row_bit_for_bit(streamed, tmp_path, monkeypatch):
    """Twenty rows, eight a step: step five is in the second pass, step eight in the fourth."""
    monkeypatch.setattr(stream, "BUFFER", 6)
    whole = streamed(output_dir=str(tmp_path / "whole"))
    whole.train()
    first = streamed()
    stop_at(first, 5)
    with pytest.raises(RunInterrupted):
        first.train()
    resumed = streamed(resume=True)
    resumed.train()
    assert losses(resumed.run_dir) == losses(whole.run_dir)
    found, wanted = weights(resumed.run_dir), weights(whole.run_dir)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_stream_trains_what_rows_at_hand_train(streamed, make, tmp_path):
    """One step over all twenty rows: the order within it does not matter."""
    common = {"batch_size": 20, "gradient_accumulation_steps": 1, "max_steps": 1}
    one, other = streamed(**common), make(**common, output_dir=str(tmp_path / "whole"))
    one.train()
    other.train()
    assert losses(one.run_dir) == pytest.approx(losses(other.run_dir), rel=1e-5)


def test_evaluation_rows_are_evaluated(streamed, row_file):
    trainer = streamed(eval_dataset_name=str(row_file), eval_steps=4)
    trainer.train()
    assert [row["step"] for row in read(trainer.run_dir / "metrics.jsonl") if row["split"] == "eval"] == [4, 8]


def test_a_bad_row_ends_the_run_when_it_is_met_and_the_checkpoint_stays(streamed, monkeypatch):
    monkeypatch.setattr(stream, "BUFFER", 1)
    good = {"prompt": "What? ", "completion": "That."}
    trainer = streamed([good] * 130 + [{"prompt": "What? ", "completion": None}], save_steps=2, max_steps=50)
    with pytest.raises(DataError, match="row 131, column 'completion': null, expected text") as caught:
        trainer.train()
    assert caught.value.exit_code == 2
    run = read_run(trainer.run_dir)
    assert run["status"] == "failed"
    assert 2 <= run["steps_done"] < 17
    kept, _ = newest_good(trainer.run_dir)
    assert kept is not None
    assert damage(kept) is None
    assert not (trainer.run_dir / "model").exists()


def test_rows_that_are_cut_or_left_out_are_counted(streamed, caplog):
    rows = [{"prompt": "Why? ", "completion": "So."}, {"prompt": "Why? " * 100, "completion": "So."}]
    rows.append({"prompt": "Why? ", "completion": "So. " * 100})
    trainer = streamed(rows, max_steps=2, max_seq_length=32)
    with caplog.at_level("INFO", "aligntune"):
        trainer.train()
    assert "as it comes is left out, nothing in it is trained" in caplog.text
    assert "rows were cut at 32 tokens" in caplog.text
    assert "rows were left out, nothing in them is trained" in caplog.text


def test_a_stream_of_which_nothing_is_trained_ends(streamed, monkeypatch):
    monkeypatch.setattr(token_stream, "HOPELESS", 50)
    with pytest.raises(DataError, match="none of 50 rows has a trained token within 8 tokens; raise max_seq_length"):
        streamed([{"prompt": "Why? " * 100, "completion": "So."}] * 3, max_seq_length=8)


def test_several_processes_are_refused():
    with pytest.raises(ConfigError, match="streaming = True: trains in one process, and there are 2"):
        token_stream.check_one_process(2)
