"""A run that is cut off between saves and resumed ends with the weights of one that was not, for every algorithm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
import torch

from aligntune import create_rl_trainer
from aligntune_core import Callback, RunInterrupted

from .marks import heavy
from .results import final_weights, same

PAIRS = [{"prompt": f"{'abcdefghij'[n % 10]} ", "chosen": "a b c", "rejected": "d e"} for n in range(24)]
RUNS = {
    "dpo": {"train_dataset": PAIRS, "batch_size": 4},
    "reward": {"train_dataset": PAIRS, "batch_size": 4},
    "grpo": {"num_iterations": 2},
    "gspo": {"steps_per_generation": 2},
    "dapo": {"num_generations": 2, "dynamic_sampling_attempts": 2},
    "dr_grpo": {"gradient_accumulation_steps": 2},
    "ppo": {"num_generations": 1, "num_iterations": 2},
}
STEPS, SAVED, CUT = 10, 4, 7
"""The runs have so few prompts that they cross epochs."""


class CutOffError(Exception):
    """As a power failure would be: nothing is saved."""


class Cutting(Callback):
    def __init__(self, at: int = CUT) -> None:
        self.at = at

    def step(self, step):
        if step == self.at:
            raise CutOffError


FAST = ("dpo", "grpo")


@pytest.mark.parametrize("lora", [heavy(False, id="full"), pytest.param(True, id="lora")])
@pytest.mark.parametrize("algorithm", [name if name in FAST else heavy(name) for name in RUNS])
def test_a_run_cut_off_between_saves_ends_bit_identical(align, tmp_path, algorithm, lora):
    settings = {"max_steps": STEPS, "save_steps": SAVED, "use_peft": lora, "learning_rate": 5e-3, **RUNS[algorithm]}
    if algorithm not in ("dpo", "reward"):
        settings["train_dataset"] = [{"prompt": f"{'abcdefghij'[n % 10]} {'jihgfedcba'[n % 7]}"} for n in range(9)]
    whole = align(algorithm, output_dir=str(tmp_path / "whole"), **settings)
    whole.train()
    cut = align(algorithm, **settings)
    cut.listen(Cutting())
    with pytest.raises(CutOffError):
        cut.train()
    saved = sorted(int(p.name.rpartition("-")[2]) for p in cut.run_dir.glob("checkpoint-*"))
    assert saved == [SAVED]
    resumed = align(algorithm, resume=True, **settings)
    assert resumed.train().steps == STEPS
    assert same(final_weights(resumed.run_dir), final_weights(whole.run_dir))


def test_saves_are_rounded_to_the_end_of_a_rollout_and_said(align, caplog):
    with caplog.at_level("INFO", "aligntune"):
        trainer = align("ppo", num_generations=1, num_iterations=3, save_steps=4)
    assert trainer.resolved["save_steps"] == 6
    assert "save_steps = 6, not 4: a rollout serves 3 steps" in caplog.text


def test_ctrl_c_waits_for_the_end_of_the_rollout_and_the_resumed_run_is_bit_identical(align, tmp_path):
    class Sender(Callback):
        def step(self, step):
            if step == 3:
                signal.raise_signal(signal.SIGINT)

    settings = {"max_steps": 8, "num_iterations": 2, "learning_rate": 5e-3}
    whole = align("grpo", output_dir=str(tmp_path / "whole"), **settings)
    whole.train()
    stopped = align("grpo", **settings)
    stopped.listen(Sender())
    with pytest.raises(RunInterrupted, match="stopped after step 4 of 8"):
        stopped.train()
    resumed = align("grpo", resume=True, **settings)
    resumed.train()
    assert same(final_weights(resumed.run_dir), final_weights(whole.run_dir))


KILLED = """
import json, os, signal, sys
from aligntune import create_rl_trainer
from aligntune_core import Callback
class Killing(Callback):
    def step(self, step):
        if step == 5:
            os.kill(os.getpid(), signal.SIGKILL)
trainer = create_rl_trainer(**json.loads(sys.argv[1]))
trainer.listen(Killing())
trainer.train()
"""


@pytest.mark.heavy
def test_a_process_that_is_killed_between_saves_goes_on_bit_identical(micro, tmp_path):
    rows, judge = tmp_path / "rows.jsonl", tmp_path / "judge.py"
    rows.write_text("".join(json.dumps({"prompt": letter}) + "\n" for letter in "abcdefghij"), "utf-8")
    judge.write_text("def share(completion):\n    return completion.count('a') / max(len(completion), 1)\n", "utf-8")
    settings = {
        "algorithm": "grpo", "backend": "trl", "model_name": str(micro), "dataset_name": str(rows), "batch_size": 8,
        "gradient_accumulation_steps": 1, "num_generations": 4, "max_completion_length": 6, "max_steps": 8,
        "save_steps": 2, "learning_rate": 5e-3, "reward_functions": f"{judge}:share",
    }  # fmt: skip

    def trained(folder: str, **more: Any) -> dict[str, torch.Tensor]:
        trainer = create_rl_trainer(**settings, output_dir=str(tmp_path / folder), **more)
        trainer.listen()
        trainer.train()
        return final_weights(trainer.run_dir)

    given = json.dumps({**settings, "output_dir": str(tmp_path / "killed")})
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, "-c", KILLED, given], check=False, timeout=120, env=environment)
    assert done.returncode == -9
    assert same(trained("killed", resume=True), trained("whole"))


@pytest.mark.parametrize("algorithm", ["dpo", heavy("grpo"), heavy("ppo")])
def test_an_adapter_that_is_trained_on_is_resumed_too(align, micro, tmp_path, algorithm):
    """TRL keeps a frozen copy of such an adapter, and with it in a checkpoint the trained one would not be restored."""
    first = align("dpo", use_peft=True, train_dataset=PAIRS, learning_rate=5e-3, output_dir=str(tmp_path / "first"))
    first.train()
    settings = {
        "model_name": str(first.run_dir),
        "max_steps": 6,
        "save_steps": 4,
        "learning_rate": 5e-3,
        **RUNS[algorithm],
    }
    whole = align(algorithm, output_dir=str(tmp_path / "whole"), **settings)
    whole.train()
    cut = align(algorithm, **settings)
    cut.listen(Cutting(5))
    with pytest.raises(CutOffError):
        cut.train()
    resumed = align(algorithm, resume=True, **settings)
    resumed.train()
    assert same(final_weights(resumed.run_dir), final_weights(whole.run_dir))
