"""PPO's policy: its gradient, its loss, its mini-batches, and that it learns."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    TrainerCallback,
)

from ..marks import heavy
from .conftest import LORA, A, Build, close, logps_of, share_of_a, weights


class Gradients(TrainerCallback):
    """Keeps the policy's gradient of each update."""

    def __init__(self) -> None:
        self.found: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        named = kwargs["model"].named_parameters()
        self.found.append({name: p.grad.clone() for name, p in named if p.grad is not None})


@pytest.mark.parametrize("critic", ["model", "head"])
def test_with_a_zero_critic_and_no_discount_the_first_gradient_is_reinforces(build, micro, critic):
    """∇ = −1/N Σ_i R_i Σ_t ∇ log π(a_it), N the number of tokens: Williams 1992, no baseline."""
    trainer = build(
        lam=1.0, gamma=1.0, whiten=False, kl_coef=0.0, critic=critic, per_device_train_batch_size=8, num_iterations=2,
        max_grad_norm=0.0,
    )  # fmt: skip
    trainer.add_callback(gradients := Gradients())
    trainer.train()
    batch = trainer._buffered_inputs[0]
    policy = AutoModelForCausalLM.from_pretrained(micro)
    completions = [ids[mask == 1] for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True)]
    rewards = share_of_a([ids.tolist() for ids in completions])
    logps = logps_of(policy, batch)
    assert len(set(rewards)) > 1
    sums = torch.stack([reward * each.sum() for reward, each in zip(rewards, logps, strict=True)])
    (-sums.sum() / sum(map(len, completions))).backward()
    expected = {name: p.grad for name, p in policy.named_parameters()}
    assert close(gradients.found[0], expected, rtol=1e-4, atol=1e-7)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.2, 0.3]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_policys_loss_is_the_clipped_surrogate_of_the_paper(surrogate, seed, scale):
    """Schulman et al. 2017, eq. 7, in float64; the mean is over the tokens of the whole batch."""
    random = np.random.default_rng(seed)
    shape = (4, 7)
    mask = np.arange(7) < random.integers(1, 8, 4)[:, None]
    old, advantages = random.normal(-2, 1, shape), random.normal(0, 1, shape) * mask
    logps = old + random.normal(0, scale, shape)
    terms = []
    for place in zip(*np.nonzero(mask), strict=True):
        ratio = np.exp(logps[place] - old[place])
        held = min(max(ratio, 1 - 0.2), 1 + 0.3)
        terms.append(min(ratio * advantages[place], held * advantages[place]))
    found = surrogate(logps, old, advantages, mask)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(-sum(terms) / len(terms), abs=1e-6)


@pytest.fixture
def surrogate(build: Build, monkeypatch: pytest.MonkeyPatch) -> Callable[..., torch.Tensor]:
    """The trainer's loss for given log-probabilities; where it would compute them, it gets them."""
    trainer = build(epsilon=0.2, epsilon_high=0.3, kl_coef=0.5, num_iterations=2)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    current: list[torch.Tensor] = []
    monkeypatch.setattr(
        trainer, "_get_per_token_logps_and_entropies", lambda *_, **__: (current[-1], torch.zeros(4, 7), None)
    )

    def loss(logps: Any, old: Any, advantages: Any, mask: Any) -> torch.Tensor:
        current.append(torch.tensor(logps))
        ones = torch.ones(4, 2, dtype=torch.long)
        ids = torch.full((4, 7), A)
        return trainer.compute_loss(
            trainer.model,
            {
                "prompt_ids": ones, "prompt_mask": ones, "completion_ids": ids,
                "completion_mask": torch.tensor(mask).long(), "advantages": torch.tensor(advantages),
                "old_per_token_logps": torch.tensor(old), "num_items_in_batch": torch.tensor(mask.sum()),
            },
        )  # fmt: skip

    return loss


@pytest.mark.parametrize("critic", ["model", "head"])
def test_one_update_lowers_the_losses_it_was_computed_on(build, critic):
    """The second of two updates on one rollout begins with the losses after the first."""
    trainer = build(
        per_device_train_batch_size=8, gradient_accumulation_steps=2, num_iterations=2, max_steps=2, critic=critic,
        cliprange_value=10.0,
    )  # fmt: skip
    trainer.train()
    first, second = trainer.state.log_history[:2]
    assert second["loss"] < first["loss"] - 1e-3
    assert second["value_loss"] < 0.99 * first["value_loss"]


@pytest.mark.parametrize("critic", ["model", "head"])
@pytest.mark.parametrize("peft", [pytest.param(None, id="full"), heavy(LORA, id="lora")])
def test_how_the_batch_is_cut_does_not_change_policy_and_critic(build, critic, peft):
    found = []
    for batch, accumulation in ((4, 1), (2, 2)):
        trainer = build(
            per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, num_iterations=2, max_steps=4,
            critic=critic, kl_coef=0.05, peft=peft, missing_eos_penalty=0.5,
        )  # fmt: skip
        trainer.train()
        found.append((weights(trainer.model), weights(trainer.critic.module)))
    (policy, its_critic), (other_policy, other_critic) = found
    assert close(policy, other_policy, rtol=1e-4, atol=2e-6)
    assert close(its_critic, other_critic, rtol=1e-4, atol=2e-6)


def test_each_epoch_cuts_the_rollout_into_other_mini_batches(build):
    """Nothing else about a completion changes with the one it stands next to."""
    trainer = build(per_device_train_batch_size=4, steps_per_generation=4, num_iterations=3, max_steps=12)
    given, prepare = [], trainer._prepare_inputs
    trainer._prepare_inputs = lambda inputs: given.append(prepare(inputs)) or given[-1]
    trainer.train()
    first, *others = [
        [[tuple(row.tolist()) for row in _rows(batch)] for batch in given[start : start + 4]] for start in (0, 4, 8)
    ]
    assert {len(batch) for batch in first} == {4}
    for epoch in others:
        assert sorted(itertools.chain(*epoch)) == sorted(itertools.chain(*first))
        assert [set(batch) for batch in epoch] != [set(batch) for batch in first]


def _rows(batch: dict[str, Any]) -> torch.Tensor:
    """All that a mini-batch says of each of its completions."""
    return torch.cat([value for value in batch.values() if isinstance(value, torch.Tensor) and value.ndim == 2], dim=1)


@pytest.mark.parametrize("critic", ["model", heavy("head")])
def test_policy_and_critic_learn(build, critic):
    """Sixteen rollouts of 64 completions."""
    trainer = build(
        per_device_train_batch_size=16, gradient_accumulation_steps=2, steps_per_generation=4, num_iterations=2,
        max_steps=64, learning_rate=3e-3, critic=critic, critic_learning_rate=3e-3, kl_coef=0.01,
    )  # fmt: skip
    trainer.train()
    rewards, explained = (
        [row[name] for row in trainer.state.log_history if name in row] for name in ("reward", "explained_variance")
    )
    assert rewards[0] < 0.2
    assert np.mean(rewards[-4:]) > 0.9
    assert explained[0] == 0
    assert np.mean(explained[2:]) > 0.02
