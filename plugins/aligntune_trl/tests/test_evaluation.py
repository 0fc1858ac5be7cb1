"""An evaluation is over rows: not over batches, not over processes, and it disturbs no training."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

import pytest

from aligntune_core import RewardError

from .results import final_weights, same

NUMBERED = [{"prompt": letter, "number": n} for n, letter in enumerate("abcdefghij" * 2)]
PAIRS = [{"prompt": f"{'abcdefghij'[n % 10]} ", "chosen": "a b" + " c" * (n % 4), "rejected": "d"} for n in range(20)]


def by_row(completion: str, number: int) -> float:
    return float(number)


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_reward_and_deviation_are_those_of_all_answers(align, batch):
    settings = {"reward_functions": [by_row], "train_dataset": NUMBERED, "eval_dataset": NUMBERED[:7]}
    found = align("grpo", eval_batch_size=batch, **settings).evaluate()
    assert found["eval_reward"] == pytest.approx(3.0)
    assert found["eval_reward_std"] == pytest.approx(statistics.pstdev(range(7)))


def test_an_evaluation_does_not_change_how_training_goes_on(align, tmp_path):
    weights = []
    for name, steps in (("with", 2), ("without", 100)):
        trainer = align(
            "grpo", max_steps=6, eval_steps=steps, eval_dataset=NUMBERED[:5], output_dir=str(tmp_path / name)
        )
        trainer.train()
        weights.append(final_weights(trainer.run_dir))
    assert same(*weights)


def test_a_reward_that_fails_in_an_evaluation_stops_the_run_after_state_was_saved(align):
    def picky(completion: str, number: int | None = None) -> float:
        if number == 3:
            raise KeyError("answer")
        return completion.count("a")

    rows = [{"prompt": row["prompt"], "number": row["number"] + 100} for row in NUMBERED]
    trainer = align(
        "grpo", reward_functions=[picky], train_dataset=rows, eval_dataset=NUMBERED[:5], eval_steps=2, max_steps=6
    )
    with pytest.raises(RewardError, match=r"picky.*row 4"):
        trainer.train()
    assert (trainer.run_dir / "checkpoint-2").is_dir()
    assert json.loads((trainer.run_dir / "run.json").read_text("utf-8"))["status"] == "failed"


def test_a_trainer_whose_reward_failed_goes_on_once_it_is_mended(align, tmp_path):
    calls = []

    def flaky(completions: list[str]) -> list[float]:
        calls.append(len(completions))
        if len(calls) == 3:
            raise KeyError("boom")
        return [float(text.count("a")) for text in completions]

    settings: dict[str, Any] = {"reward_functions": [flaky], "max_steps": 6, "num_iterations": 2}
    trainer = align("grpo", **settings)
    with pytest.raises(RewardError, match="boom"):
        trainer.train()
    assert trainer.train(resume=True).steps == 6
    again = align("grpo", output_dir=str(tmp_path / "again"), **settings)
    again.train()
    assert same(final_weights(trainer.run_dir), final_weights(again.run_dir))


EVALUATED = """
import json, sys
import torch
torch.set_num_threads(1)
from aligntune import create_rl_trainer
def by_row(completion, number):
    return float(number)
for algorithm, settings in json.loads(sys.argv[1]).items():
    if algorithm == "grpo":
        settings["reward_functions"] = [by_row]
    trainer = create_rl_trainer(algorithm=algorithm, backend="trl", **settings)
    if algorithm == "dpo":
        trainer.listen()
        trainer.train()
    found = trainer.evaluate()
    if trainer.native.accelerator.is_main_process:
        print(json.dumps([algorithm, found]), flush=True)
    trainer.close()
"""


@pytest.mark.heavy
def test_two_processes_evaluate_to_the_numbers_of_one(micro, tmp_path):
    """Seven rows in batches of two: on two processes three rows fill no whole batch."""

    def settings(name: str, batch: int) -> dict[str, Any]:
        shared = {"model_name": str(micro), "eval_batch_size": 2, "gradient_accumulation_steps": 1, "batch_size": batch}
        return {
            "grpo": {
                **shared, "train_dataset": NUMBERED, "eval_dataset": NUMBERED[:7], "num_generations": 2,
                "max_completion_length": 4, "output_dir": str(tmp_path / f"grpo{name}"),
            },
            "dpo": {
                **shared, "train_dataset": PAIRS, "eval_dataset": PAIRS[:7], "max_steps": 3, "learning_rate": 1e-3,
                "output_dir": str(tmp_path / f"dpo{name}"),
            },
        }  # fmt: skip

    script = tmp_path / "evaluate.py"
    script.write_text(EVALUATED, "utf-8")
    launched = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found = {}
    for name, launcher, batch in (("one", [], 4), ("two", launched, 2)):
        command = [sys.executable, *launcher, str(script), json.dumps(settings(name, batch))]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=180)
        found[name] = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    for algorithm, measures in (
        ("grpo", ("eval_reward", "eval_reward_std")),
        ("dpo", ("eval_loss", "eval_rewards/margins", "eval_rewards/accuracies")),
    ):
        one, two = ([found[name][algorithm][m] for m in measures] for name in ("one", "two"))
        assert two == pytest.approx(one, rel=1e-4)
