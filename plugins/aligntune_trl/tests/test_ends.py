"""How runs end: finished, diverged, disk full, interrupted; and how they go on."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from shutil import copytree, rmtree

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from aligntune_core import Callback, ConfigError, DivergedError, RunInterrupted
from aligntune_core.runs.checkpoints import damage, newest_good
from aligntune_core.runs.folder import read_run
from aligntune_core.runs.metrics import read

from .marks import heavy
from .results import final_weights, same


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, with its hash."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def stop_at(trainer, step: int, number: int) -> None:
    """Send this process a signal when the run reaches a step."""

    class Sender(Callback):
        def step(self, done):
            if done == step:
                signal.raise_signal(number)

    trainer.listen(Sender())


def test_a_finished_run_has_a_model_that_loads_in_plain_transformers(make):
    from transformers import AutoModelForCausalLM

    trainer = make(num_epochs=1)
    result = trainer.train()
    loaded = AutoModelForCausalLM.from_pretrained(result.model_path)
    assert same(loaded.state_dict(), trainer.native.model.state_dict())
    assert read_run(trainer.run_dir)["status"] == "finished"
    assert (result.steps, result.epochs) == (3, 1.0)
    assert result.final_loss == read(trainer.run_dir / "metrics.jsonl")[-1]["loss"]


def test_answering_a_sample_does_not_change_on_which_side_the_saved_tokenizer_pads(make):
    trainer = make(max_steps=1)
    side = trainer.native.processing_class.padding_side
    saved = AutoTokenizer.from_pretrained(trainer.train().model_path)
    assert saved.padding_side == side == "right"


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, id="Ctrl-C"), heavy(signal.SIGTERM, id="SIGTERM")])
def test_a_signal_saves_and_the_resumed_run_ends_bit_identical(make, tmp_path, number):
    whole = make(num_epochs=2, output_dir=str(tmp_path / "whole"), use_peft=True, lora_dropout=0.1)
    whole.train()
    first = make(num_epochs=2, use_peft=True, lora_dropout=0.1)
    stop_at(first, 2, number)
    with pytest.raises(RunInterrupted, match="go on with: aligntune train --resume") as caught:
        first.train()
    assert caught.value.exit_code == 128 + number
    assert read_run(first.run_dir)["status"] == "interrupted"
    assert not (first.run_dir / "model").exists()
    resumed = make(num_epochs=2, resume=True, use_peft=True, lora_dropout=0.1)
    resumed.train()
    assert same(final_weights(resumed.run_dir), final_weights(whole.run_dir))
    keep = ("step", "split", "loss", "learning_rate", "grad_norm")
    rows = [[{k: row[k] for k in keep} for row in read(t.run_dir / "metrics.jsonl")] for t in (resumed, whole)]
    assert rows[0] == rows[1]


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(make, tmp_path, caplog):
    whole = make(num_epochs=2, output_dir=str(tmp_path / "whole"))
    whole.train()
    first = make(num_epochs=2, save_steps=2)
    stop_at(first, 5, signal.SIGINT)
    with pytest.raises(RunInterrupted):
        first.train()
    broken = first.run_dir / "checkpoint-5" / "optimizer.pt"
    content = bytearray(broken.read_bytes())
    content[len(content) // 2] ^= 1
    broken.write_bytes(content)
    with caplog.at_level("WARNING", "aligntune"):
        resumed = make(num_epochs=2, save_steps=2, resume=True)
    assert "checkpoint-5: optimizer.pt has changed since it was written" in caplog.text
    resumed.train()
    assert same(final_weights(resumed.run_dir), final_weights(whole.run_dir))


def test_a_finished_run_is_finished(make):
    make(num_epochs=1).train()
    again = make(num_epochs=1, resume=True)
    before = tree(again.run_dir)
    assert again.train().steps == 3
    assert tree(again.run_dir) == before


@pytest.mark.parametrize("lora", [heavy(False, id="full"), pytest.param(True, id="lora")])
def test_a_run_killed_after_its_last_step_trains_no_further_step(make, tmp_path, lora):
    whole = make(max_steps=4, use_peft=lora, output_dir=str(tmp_path / "whole"))
    whole.train()
    killed = make(max_steps=4, use_peft=lora)
    killed.train()
    rmtree(killed.run_dir / "model")
    run = read_run(killed.run_dir)
    (killed.run_dir / "run.json").write_text(json.dumps(run | {"status": "running"}), "utf-8")
    result = make(max_steps=4, use_peft=lora, resume=True).train()
    assert result.steps == 4
    assert same(final_weights(killed.run_dir), final_weights(whole.run_dir))


def test_changed_settings_are_refused_field_by_field(make):
    first = make(num_epochs=2)
    stop_at(first, 2, signal.SIGINT)
    with pytest.raises(RunInterrupted):
        first.train()
    with pytest.raises(ConfigError) as caught:
        make(num_epochs=2, resume=True, learning_rate=5e-4, batch_size=2)
    assert [p.field for p in caught.value.problems] == ["batch_size", "learning_rate"]


def poisoned(tiny: Path, target: Path, value: float) -> Path:
    """The tiny model with one weight replaced."""
    copytree(tiny, target)
    path = target / "model.safetensors"
    tensors = load_file(path)
    name = next(n for n in tensors if "mlp" in n)
    tensors[name].view(-1)[0] = value
    save_file(tensors, path, metadata={"format": "pt"})
    return target


def test_a_loss_that_is_not_finite_stops_at_that_step(make, tiny, tmp_path):
    trainer = make(model_name=str(poisoned(tiny, tmp_path / "nan", float("nan"))), save_steps=1)
    with pytest.raises(DivergedError, match=r"loss = nan: is not finite at step 1; lower learning_rate") as caught:
        trainer.train()
    assert caught.value.exit_code == 5
    assert not list(trainer.run_dir.glob("checkpoint-*"))
    assert read_run(trainer.run_dir)["status"] == "failed"


def test_a_gradient_that_is_not_finite_changes_no_weight(make):
    trainer = make(save_steps=1, use_peft=False)
    weight = trainer.native.model.model.norm.weight
    weight.register_hook(lambda grad: grad * float("inf"))
    before = weight.detach().clone()
    with pytest.raises(DivergedError, match=r"grad_norm = (inf|nan): is not finite at step 1"):
        trainer.train()
    assert torch.equal(trainer.native.model.model.norm.weight, before)
    assert not list(trainer.run_dir.glob("checkpoint-*"))


def test_training_that_runs_away_keeps_only_good_checkpoints(make):
    trainer = make(
        learning_rate=1.0, warmup_steps=0, lr_scheduler="constant", optimizer="sgd", max_grad_norm=0, num_epochs=40,
        save_steps=1, save_total_limit=100,
    )  # fmt: skip
    for parameter in trainer.native.model.parameters():
        parameter.register_hook(lambda grad: grad * 1e4)
    with pytest.raises(DivergedError):
        trainer.train()
    for checkpoint in trainer.run_dir.glob("checkpoint-*"):
        tensors = load_file(checkpoint / "model.safetensors")
        assert all(torch.isfinite(t).all() for t in tensors.values())


SMALL_DISK = """
import resource, sys
from aligntune_core.cli.main import run
from aligntune_core.runs import recorder
commit = recorder.commit
def limited(*args):
    done = commit(*args)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # from now on no file may be larger
    return done
recorder.commit = limited
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.heavy
def test_a_full_disk_is_exit_6_and_the_last_good_checkpoint_is_intact(tiny, row_file, tmp_path):
    run_dir = tmp_path / "run"
    command = [sys.executable, "-c", SMALL_DISK, "train", "--model-name", str(tiny), "--dataset-name", str(row_file)]
    command += ["--output-dir", str(run_dir), "--save-steps", "1", "--batch-size", "4", "--quiet", "--backend", "trl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr
    assert "error: output_dir = " in done.stderr
    assert "the last good checkpoint is intact" in done.stderr
    assert "Traceback" not in done.stderr
    good, damaged = newest_good(run_dir)
    assert good is not None
    assert good.name == "checkpoint-1"
    assert not damaged
    assert damage(good) is None
    assert not (run_dir / "model").exists()
    assert json.loads((run_dir / "run.json").read_text())["status"] == "failed"
