"""PPO's critic: where it begins, what it sees, its gradient and its optimiser."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    TrainerCallback,
)

from aligntune_core import DivergedError

from ..conftest import END
from ..results import same
from .conftest import LORA, chained, rollout, shake, some_none, weights


@pytest.mark.parametrize("start", ["full", "lora", "chained"])
def test_the_critics_copy_begins_with_the_policys_hidden_states(build, micro, start):
    model = chained(micro) if start == "chained" else None
    trainer = build(model, peft=LORA if start == "lora" else None, kl_coef=0.1)
    ids = torch.tensor([[2, 3, 4, 5, 6]])
    policy = trainer.model.get_base_model() if start != "full" else trainer.model
    expected = policy(input_ids=ids, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(trainer.critic.module.backbone(input_ids=ids)[0], expected, rtol=1e-5, atol=1e-5)
    trained = [name for name, p in trainer.critic.module.named_parameters() if p.requires_grad]
    assert "head.weight" in trained
    assert all(("lora" in name) == (start != "full") for name in trained if not name.startswith("head."))


@pytest.mark.parametrize("critic", ["model", "head"])
def test_a_value_is_that_of_the_tokens_before_and_does_not_depend_on_padding(build, critic):
    trainer = build(critic=critic)
    shake(trainer.critic.module)
    ids = torch.tensor([[2, 3, 4, 5, 6, 7]])
    mask = torch.ones_like(ids)
    values = trainer.critic.values(ids, mask, 3, 8)
    changed = ids.clone()
    changed[0, -1] = 9
    torch.testing.assert_close(trainer.critic.values(changed, mask, 3, 8), values)
    left = torch.nn.functional.pad(ids, (4, 0)), torch.nn.functional.pad(mask, (4, 0))
    torch.testing.assert_close(trainer.critic.values(*left, 3, 8), values, rtol=1e-4, atol=1e-5)
    earlier = torch.cat([trainer.critic.values(ids[:, :n], mask[:, :n], 1, 8) for n in (4, 5, 6)], dim=1)
    torch.testing.assert_close(earlier, values, rtol=1e-4, atol=1e-5)
    assert values.unique().numel() == 3


def test_padding_does_not_shift_the_positions_that_a_critic_of_its_own_sees(build, micro):
    """A model whose positions are absolute, as GPT-2's are."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=12, n_positions=32, n_embd=32, n_layer=1, n_head=2, eos_token_id=END))
    trainer = build(model)
    shake(trainer.critic.module)
    ids = torch.tensor([[2, 3, 4, 5]])
    left = torch.nn.functional.pad(ids, (4, 0))
    values = [trainer.critic.values(some, (some > 0).long(), 2, 8) for some in (ids, left)]
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-5)


def test_a_value_does_not_depend_on_chance(build, micro):
    model = AutoModelForCausalLM.from_pretrained(micro, attention_dropout=0.5)
    dropping = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.5, task_type="CAUSAL_LM")
    trainer = build(model, peft=dropping, gradient_checkpointing=True)
    shake(trainer.critic.module)
    assert trainer.critic.module.training
    ids = torch.arange(2, 10)[None]
    assert torch.equal(*(trainer.critic.module(ids, torch.ones_like(ids), 4) for _ in range(2)))


@pytest.mark.parametrize("critic", ["model", "head"])
def test_the_critic_is_no_part_of_the_policy_and_does_not_change_its_samples(build, micro, critic):
    trainer = build(critic=critic)
    assert trainer.model.state_dict().keys() == AutoModelForCausalLM.from_pretrained(micro).state_dict().keys()
    samples = [
        rollout(build(critic=critic, critic_lora=lora, peft=peft))["completion_ids"]
        for lora, peft in ((None, None), (None, LORA), (LORA, None))
    ]
    assert torch.equal(samples[0], samples[1])
    assert torch.equal(samples[0], samples[2])


class Rates(TrainerCallback):
    """Keeps the policy's and the critic's learning rate of each update."""

    def __init__(self, critic: Any) -> None:
        self.critic = critic
        self.found: list[tuple[float, float]] = []

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        rates = [optimizer.param_groups[0]["lr"] for optimizer in (kwargs["optimizer"], self.critic.optimizer)]
        self.found.append((rates[0], rates[1]))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_critic_steps_with_the_policy_and_its_rate_has_the_same_shape(build, schedule):
    trainer = build(
        max_steps=6, num_iterations=2, gradient_accumulation_steps=2, lr_scheduler_type=schedule, warmup_steps=2,
        learning_rate=1e-4, critic_learning_rate=5e-3,
    )  # fmt: skip
    trainer.add_callback(rates := Rates(trainer.critic))
    trainer.train()
    assert [mine / 5e-3 for _, mine in rates.found] == pytest.approx([policy / 1e-4 for policy, _ in rates.found])
    assert max(mine for _, mine in rates.found) == pytest.approx(5e-3)
    assert {int(state["step"]) for state in trainer.critic.optimizer.state.values()} == {6}


def first_gradient(critic: Any) -> dict[str, torch.Tensor]:
    """What AdamW saw in its only update: its first moment is a tenth of it."""
    return {name: 10 * critic.optimizer.state[p]["exp_avg"] for name, p in critic.module.named_parameters()}


@pytest.mark.parametrize(("accumulation", "steps"), [(1, 1), (2, 2), (1, 2)])
@pytest.mark.parametrize("critic", ["model", "head"])
def test_the_critics_gradient_is_that_of_the_mean_squared_error_over_tokens(build, critic, accumulation, steps):
    """With V = 0 that is −vf_coef/N Σ R ∇V, and ∇V of the head is the hidden state before the token.

    N is the number of tokens of an update as TRL's `dapo` loss has it: the rollout's, divided by its updates.
    """
    trainer = build(
        critic=critic, vf_coef=0.3, max_grad_norm=0.0, gradient_accumulation_steps=accumulation,
        steps_per_generation=steps, reward=some_none, per_device_train_batch_size=8,
    )  # fmt: skip
    backbone = copy.deepcopy(trainer.model.model)
    trainer.train()
    batches = trainer._buffered_inputs
    expected = torch.zeros(33)
    for batch in batches[:accumulation]:
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        with torch.no_grad():
            hidden = backbone(input_ids=ids, attention_mask=mask)[0][:, -batch["returns"].shape[1] - 1 : -1]
        returns = (batch["returns"] * batch["learnt_mask"])[..., None]
        expected -= 0.3 * torch.cat([(returns * hidden).sum((0, 1)), returns.sum((0, 1))])
    tokens = sum(batch["completion_mask"].sum() for batch in batches) * accumulation / steps
    found = first_gradient(trainer.critic)
    found_head = torch.cat([found["head.weight"][0], found["head.bias"]])
    torch.testing.assert_close(found_head, expected / tokens, rtol=1e-4, atol=1e-7)
    assert found_head.abs().max() > 1e-3


def test_the_critics_gradient_is_clipped_by_its_own_norm(build):
    def norm(limit: float) -> float:
        trainer = build(max_grad_norm=limit)
        trainer.train()
        return torch.cat([g.flatten() for g in first_gradient(trainer.critic).values()]).norm().item()

    assert norm(1e-6) == pytest.approx(1e-6, rel=1e-2)
    assert norm(0.0) > 1e-3


@pytest.mark.parametrize("critic", ["model", "head"])
def test_under_bf16_the_critics_trained_weights_and_its_values_are_fp32(build, micro, critic):
    model = AutoModelForCausalLM.from_pretrained(micro, dtype=torch.bfloat16)
    trainer = build(
        model,
        peft=LORA,
        critic=critic,
        bf16=True,
        gradient_checkpointing=True,
        kl_coef=0.05,
        num_iterations=2,
        max_steps=4,
    )
    before = weights(trainer.critic.module)
    trainer.train()
    trained = {name: p for name, p in trainer.critic.module.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert not any(torch.equal(before[name], p) for name, p in trained.items() if "lora_A" not in name)
    assert trainer._buffered_inputs[0]["values"].dtype == torch.float32


def test_a_critic_that_diverges_stops_the_run_and_nothing_is_updated(build):
    trainer = build(reward=lambda completion_ids, **_: [1e30] * len(completion_ids))
    before = weights(trainer.critic.module)
    with pytest.raises(DivergedError, match="value_loss = inf: is not finite at step 1"):
        trainer.train()
    assert same(before, weights(trainer.critic.module))
