"""DPO and GRPO train exactly what a plain TRL script trains, and do not depend on how the batch is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from aligntune import create_rl_trainer

from .marks import heavy
from .results import losses

PAIRS = [
    {"prompt": f"What is {n}?\n", "chosen": f"It is {n * n}.", "rejected": "I do not know" + "." * (n % 4)}
    for n in range(20)
]
CHAT_PAIRS = [
    {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "chosen": [{"role": "assistant", "content": row["chosen"]}],
        "rejected": [{"role": "assistant", "content": row["rejected"]}],
    }
    for row in PAIRS
]
PROMPTS = [{"prompt": f"What is {n}?\n", "n": n} for n in range(16)]
ADAPTER = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
SHARED: dict[str, Any] = {
    "seed": 42, "data_seed": 42, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3, "lr_scheduler_type": "cosine", "warmup_steps": 0.03, "optim": "adamw_torch_fused",
    "max_grad_norm": 1.0, "weight_decay": 0.0, "bf16": False, "use_cpu": True, "gradient_checkpointing": False,
    "logging_steps": 1, "report_to": "none", "disable_tqdm": True, "save_strategy": "no",
    "dataloader_pin_memory": False, "disable_dropout": True,
}  # fmt: skip


def length(completions: list[Any], n: list[int], **_: Any) -> list[float]:
    """A reward that differs between answers."""
    return [len(set(said)) / 10 + number / 100 for said, number in zip(completions, n, strict=True)]


def course(trainer: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses and the weights of a plain TRL trainer after training."""
    trainer.train()
    told = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return told, {name: p.detach().clone() for name, p in trainer.model.state_dict().items()}


def ours(trainer: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    trainer.listen()
    trainer.train()
    return losses(trainer.run_dir), {name: p.detach().clone() for name, p in trainer.native.model.state_dict().items()}


def check_equal(found: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    assert found[0] == expected[0]
    assert len(set(found[0])) > 1
    assert found[1].keys() == expected[1].keys()
    assert all(torch.equal(found[1][name], expected[1][name]) for name in expected[1])


@pytest.mark.parametrize("rows", [pytest.param(PAIRS, id="text"), heavy(CHAT_PAIRS, id="messages")])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_dpo_equals_a_plain_trl_script_bit_for_bit(tiny: Path, tmp_path: Path, rows: list[Any], lora: bool) -> None:
    set_seed(42)
    plain = trl.DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32),
        args=trl.DPOConfig(output_dir=str(tmp_path / "plain"), num_train_epochs=2, beta=0.1, max_length=128, **SHARED),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(tiny),
        peft_config=ADAPTER if lora else None,
    )
    expected = course(plain)
    trainer = create_rl_trainer(
        algorithm="dpo", backend="trl", model_name=str(tiny), train_dataset=rows, num_epochs=2, max_seq_length=128,
        batch_size=4, gradient_accumulation_steps=2, learning_rate=1e-3, logging_steps=1, use_peft=lora,
        output_dir=str(tmp_path / "ours"),
    )  # fmt: skip
    check_equal(ours(trainer), expected)


@pytest.mark.parametrize("lora", [heavy(False, id="full"), pytest.param(True, id="lora")])
def test_grpo_equals_a_plain_trl_script_bit_for_bit(tiny: Path, tmp_path: Path, lora: bool) -> None:
    set_seed(42)
    plain = trl.GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32),
        reward_funcs=[length],
        args=trl.GRPOConfig(
            output_dir=str(tmp_path / "plain"),
            max_steps=6,
            num_generations=4,
            max_completion_length=8,
            beta=0.04,
            loss_type="grpo",
            epsilon=0.2,
            scale_rewards="group",
            importance_sampling_level="token",
            temperature=1.0,
            use_bias_correction_kl=False,
            **SHARED,
        ),
        train_dataset=Dataset.from_list(PROMPTS),
        processing_class=AutoTokenizer.from_pretrained(tiny),
        peft_config=ADAPTER if lora else None,
    )
    expected = course(plain)
    trainer = create_rl_trainer(
        algorithm="grpo", backend="trl", model_name=str(tiny), train_dataset=PROMPTS, max_steps=6, batch_size=4,
        gradient_accumulation_steps=2, num_generations=4, max_completion_length=8, reward_functions=[length],
        learning_rate=1e-3, logging_steps=1, use_peft=lora, output_dir=str(tmp_path / "ours"),
    )  # fmt: skip
    check_equal(ours(trainer), expected)


def test_how_the_batch_is_cut_does_not_change_the_losses_of_dpo(tiny: Path, tmp_path: Path) -> None:
    """20 pairs in windows of 8: two whole windows and a partial one."""
    runs = {}
    for batch, accumulation in ((8, 1), (2, 4)):
        trainer = create_rl_trainer(
            algorithm="dpo", backend="trl", model_name=str(tiny), train_dataset=PAIRS, num_epochs=1, batch_size=batch,
            gradient_accumulation_steps=accumulation, learning_rate=1e-4, logging_steps=1,
            output_dir=str(tmp_path / f"b{batch}"),
        )  # fmt: skip
        runs[batch] = ours(trainer)[0]
    assert runs[2] == pytest.approx(runs[8], rel=2e-4)


def test_an_evaluation_is_the_mean_over_pairs_whatever_the_batch(tiny: Path, tmp_path: Path) -> None:
    found = []
    for batch in (3, 7):
        trainer = create_rl_trainer(
            algorithm="dpo", backend="trl", model_name=str(tiny), train_dataset=PAIRS, eval_dataset=PAIRS[:7],
            eval_batch_size=batch, max_steps=3, batch_size=4, gradient_accumulation_steps=1, learning_rate=1e-3,
            output_dir=str(tmp_path / f"e{batch}"),
        )  # fmt: skip
        ours(trainer)
        found.append(trainer.evaluate())
    for name in ("eval_loss", "eval_rewards/margins", "eval_rewards/accuracies", "eval_logps/chosen"):
        assert [numbers[name] for numbers in found] == pytest.approx([found[0][name]] * 2, rel=1e-4)


def test_pairs_that_are_cut_or_left_out_are_counted(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = [
        {"prompt": "a ", "chosen": "very " * 100, "rejected": "no"},
        {"prompt": "b " * 60, "chosen": "c", "rejected": "d"},
    ]
    with caplog.at_level("INFO", "aligntune"):
        create_rl_trainer(
            algorithm="dpo",
            backend="trl",
            model_name=str(tiny),
            train_dataset=[*PAIRS, *long],
            max_seq_length=60,
            output_dir=str(tmp_path / "run"),
        )
    assert "dataset_name: 1 of 22 pairs are cut at 60 tokens: row 21" in caplog.text
    assert "dataset_name: 1 of 22 pairs are left out, their answers do not fit into 60 tokens: row 22" in caplog.text


def test_losses_of_trl_are_reached_by_name_and_by_backend_options(tiny: Path, tmp_path: Path) -> None:
    trainer = create_rl_trainer(
        algorithm="dpo", backend="trl", model_name=str(tiny), train_dataset=PAIRS, loss_type="sigmoid,sft", beta=0.3,
        backend_options={"loss_weights": [1.0, 0.5], "label_smoothing": 0.1}, output_dir=str(tmp_path / "run"),
        max_steps=1,
    )  # fmt: skip
    wanted = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5], "label_smoothing": 0.1, "beta": 0.3}
    assert {name: trainer.resolved[name] for name in wanted} == wanted
    trainer.listen()
    assert trainer.train().steps == 1


def test_lora_keeps_no_second_model_and_full_fine_tuning_does(tiny: Path, tmp_path: Path) -> None:
    for lora in (True, False):
        trainer = create_rl_trainer(
            algorithm="dpo", backend="trl", model_name=str(tiny), train_dataset=PAIRS, use_peft=lora,
            output_dir=str(tmp_path / f"run{lora}"),
        )  # fmt: skip
        assert (trainer.native.ref_model is None) == lora
