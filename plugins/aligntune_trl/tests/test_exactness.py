"""What is trained is exactly what TRL trains, and does not depend on how the batch is cut."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from aligntune_core.runs.metrics import read

from .marks import heavy
from .results import losses

AS_DRAWN = {"train_sampling_strategy": "random"}
"""The rows of an update in the order in which they were drawn, as plain TRL takes them."""


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.state_dict().items()}


def plain_trl(
    tiny: Path, rows: list[dict[str, str]], folder: Path, *, lora: bool
) -> tuple[list[float], Mapping[str, Any]]:
    """The script that a TRL user writes, with the same explicit arguments."""
    set_seed(42)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    args = trl.SFTConfig(
        output_dir=str(folder), seed=42, data_seed=42, num_train_epochs=2, per_device_train_batch_size=4,
        gradient_accumulation_steps=2, learning_rate=1e-3, lr_scheduler_type="cosine", warmup_steps=0.03,
        optim="adamw_torch_fused", max_grad_norm=1.0, weight_decay=0.0, bf16=False, use_cpu=True, max_length=128,
        gradient_checkpointing=False, logging_steps=1, report_to="none", disable_tqdm=True, save_strategy="no",
        dataloader_pin_memory=False, loss_type="nll",
    )  # fmt: skip
    adapter = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = trl.SFTTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter if lora else None,
    )
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row], weights(trainer.model)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_sft_equals_a_plain_trl_script_bit_for_bit(make, tiny, verbatim_rows, tmp_path, lora):
    expected_losses, expected = plain_trl(tiny, verbatim_rows, tmp_path / "plain", lora=lora)
    trainer = make(num_epochs=2, use_peft=lora, backend_options=AS_DRAWN)
    trainer.train()
    assert losses(trainer.run_dir) == expected_losses
    found = weights(trainer.native.model)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_rows_of_like_length_share_a_pass_and_every_update_has_the_rows_that_were_drawn_for_it(make, tmp_path):
    runs = []
    for options in (AS_DRAWN, {}):
        trainer = make(num_epochs=2, backend_options=options, output_dir=str(tmp_path / f"run{len(runs)}"))
        loader = trainer.native.get_train_dataloader()
        passes = [batch["input_ids"] for epoch in (0, 1) if loader.set_epoch(epoch) is None for batch in loader]
        trainer.train()
        runs.append((sum(ids.numel() for ids in passes), losses(trainer.run_dir)))
    (padded, drawn), (less_padded, sorted_) = runs
    assert sorted_ == pytest.approx(drawn, rel=2e-5)
    assert less_padded < padded


def test_how_the_batch_is_cut_does_not_change_the_losses(make, tmp_path):
    """20 rows in windows of 8: two whole windows and a partial one, in two epochs."""
    runs = {}
    for batch, accumulation in ((8, 1), (4, 2), (2, 4)):
        trainer = make(
            batch_size=batch,
            gradient_accumulation_steps=accumulation,
            num_epochs=2,
            output_dir=str(tmp_path / f"b{batch}"),
        )
        assert trainer.train().steps == 6
        runs[batch] = losses(trainer.run_dir)
    assert runs[4] == pytest.approx(runs[8], rel=2e-5)
    assert runs[2] == pytest.approx(runs[8], rel=2e-5)


def reference_eval_loss(model: Any, tokenizer: Any, rows: list[dict[str, str]]) -> float:
    """The mean over all answer tokens, one row at a time, summed in float64."""
    total, count = 0.0, 0
    for row in rows:
        prompt = len(tokenizer(row["prompt"]).input_ids)
        ids = torch.tensor([tokenizer(row["prompt"] + row["completion"] + tokenizer.eos_token).input_ids])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1].double()
        picked = torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[prompt - 1 :]
        total, count = total - float(picked.sum()), count + len(picked)
    return total / count


def test_evaluation_loss_is_the_mean_over_tokens(make, tiny, verbatim_rows, tmp_path):
    rows = verbatim_rows[:7]
    expected = reference_eval_loss(
        AutoModelForCausalLM.from_pretrained(tiny).eval(), AutoTokenizer.from_pretrained(tiny), rows
    )
    for batch in (1, 3, 7):
        trainer = make(eval_dataset=rows, eval_batch_size=batch, output_dir=str(tmp_path / f"e{batch}"))
        assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_tokens_a_second_leave_padding_out(make, tiny, verbatim_rows):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    expected = sum(len(tokenizer(r["prompt"] + r["completion"]).input_ids) + 1 for r in verbatim_rows)
    trainer = make(num_epochs=1)
    result = trainer.train()
    rows = read(trainer.run_dir / "metrics.jsonl")
    assert rows[-1]["num_tokens"] == expected
    assert 0 < rows[-1]["tokens_per_second"] < math.inf
    assert result.steps == 3


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"use_peft": True, "precision": "bf16"}, id="bf16 lora"),
        heavy({"use_peft": False, "precision": "bf16"}, id="full fine-tuning under bf16"),
    ],
)
def test_a_hundred_small_updates_move_every_trained_weight(make, settings):
    trainer = make(
        **settings, max_steps=100, batch_size=1, gradient_accumulation_steps=1, learning_rate=1e-6, logging_steps=50
    )
    before = {n: p.detach().clone() for n, p in trainer.native.model.named_parameters() if p.requires_grad}
    trainer.train()
    after = dict(trainer.native.model.named_parameters())
    stuck = [n for n, p in before.items() if torch.equal(p, after[n])]
    assert before
    assert not stuck
    assert {p.dtype for p in before.values()} == {torch.float32}
