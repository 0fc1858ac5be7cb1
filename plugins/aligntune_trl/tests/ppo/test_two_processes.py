"""PPO in two processes on CPU: they end alike, and as one process with the whole batch does.

Run as a script, this file is one of the two.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from aligntune_trl.quiet import hush

hush()

import trl  # noqa: E402
from aligntune_trl.ppo import ppo_config_class, ppo_trainer_class  # noqa: E402
from datasets import Dataset  # noqa: E402
from peft import LoraConfig  # noqa: E402
from transformers import PrinterCallback, set_seed  # noqa: E402

pytestmark = pytest.mark.heavy
LORA = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM")
CASES: dict[str, dict[str, Any]] = {
    "full, model": {"critic": "model"},
    "lora, model": {"critic": "model", "peft_config": LORA},
    "lora, head": {"critic": "head", "peft_config": LORA},
}


def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Anything that differs from completion to completion."""
    return [sum(ids) % 7 / 7 for ids in completion_ids]


def trained(tiny: str, folder: str, batch_size: int, case: dict[str, Any]) -> dict[str, Any]:
    """Two rollouts, each used for two updates of two batches; the likeliest token is taken, so chance plays no part."""
    args = ppo_config_class(trl.GRPOConfig)(
        output_dir=folder, per_device_train_batch_size=batch_size, gradient_accumulation_steps=2, num_iterations=2,
        max_steps=4, max_completion_length=6, top_k=1, learning_rate=1e-4, logging_steps=1, save_strategy="no",
        lr_scheduler_type="constant", bf16=False, use_cpu=True, report_to="none", disable_tqdm=True,
        gradient_checkpointing=False, dataloader_pin_memory=False, ddp_find_unused_parameters=False,
    )  # fmt: skip
    set_seed(0)  # TRL 1.14 leaves it to the caller which adapter it begins with
    prompts = Dataset.from_list([{"prompt": f"{'Say ' * (number % 4)}{number}"} for number in range(16)])
    trainer = ppo_trainer_class(trl.GRPOTrainer)(
        tiny, args=args, reward_funcs=reward, train_dataset=prompts, gamma=0.99, lam=0.9, kl_coef=0.05, vf_coef=0.1,
        cliprange_value=0.2, critic_learning_rate=1e-3, whiten=True, missing_eos_penalty=0.3, **case,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    tokens = [batch["advantages"][batch["learnt_mask"] == 1] for batch in trainer._buffered_inputs]
    return {
        "policy": {name: p.detach() for name, p in trainer.model.named_parameters()},
        "critic": {name: p.detach() for name, p in trainer.critic.module.named_parameters()},
        "advantages": torch.cat(tokens),
        "log": trainer.state.log_history,
    }


@pytest.fixture(scope="module")
def runs(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """For each case the results of rank 0, rank 1, and of one process."""
    folder = tmp_path_factory.mktemp("ddp")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    done = subprocess.run(
        [*launch, str(tiny), str(folder)], capture_output=True, text=True, check=False, timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
    return {
        name: [ranks[0][name], ranks[1][name], trained(str(tiny), str(folder / "one"), 4, case)]
        for name, case in CASES.items()
    }


@pytest.mark.parametrize("case", CASES)
def test_both_processes_end_with_the_same_weights(runs, case):
    first, second, _ = runs[case]
    for part in ("policy", "critic"):
        assert first[part].keys() == second[part].keys()
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])


@pytest.mark.parametrize("case", CASES)
def test_two_processes_end_where_one_with_the_whole_batch_does(runs, case):
    two, _, one = runs[case]
    for part in ("policy", "critic"):
        for name, expected in one[part].items():
            torch.testing.assert_close(
                two[part][name], expected, rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}"
            )
    for name in ("loss", "value_loss", "kl", "non_score_reward", "explained_variance", "returns_mean", "values_mean"):
        numbers = [[row[name] for row in run["log"] if name in row] for run in (two, one)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("case", CASES)
def test_advantages_are_whitened_over_both_processes(runs, case):
    first, second = (run["advantages"] for run in runs[case][:2])
    both = torch.cat([first, second])
    assert both.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert both.var(correction=0).item() == pytest.approx(1.0, abs=1e-3)
    assert abs(first.mean().item()) > 1e-3


if __name__ == "__main__":
    where = Path(sys.argv[2])
    results = {name: trained(sys.argv[1], str(where / "two"), 2, case) for name, case in CASES.items()}
    torch.save(results, where / f"{os.environ['RANK']}.pt")
