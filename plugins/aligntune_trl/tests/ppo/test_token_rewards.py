"""What each token is worth in PPO: the score at the end, the KL before it, and what is not scored."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
)

from ..conftest import END
from ..results import same
from .conftest import LORA, chained, logps_of, rollout, shake, share_of_a, some_none, weights


@pytest.mark.parametrize("start", ["full", "lora", "chained"])
@pytest.mark.parametrize("iterations", [1, 2], ids=["one update a rollout", "two"])
def test_the_kl_to_the_policy_before_training_is_taken_off_each_tokens_reward(build, micro, start, iterations):
    """With a zero critic, γ = λ = 1, the return is the score less kl_coef times the KL from here to the end."""
    model = chained(micro) if start == "chained" else None
    reference = copy.deepcopy(model) if model is not None else AutoModelForCausalLM.from_pretrained(micro)
    trainer = build(
        model, peft=LORA if start == "lora" else None, kl_coef=0.3, gamma=1.0, lam=1.0, num_iterations=iterations
    )
    assert rollout(trainer)["returns"].isfinite().all()
    assert trainer._metrics["train"].pop("kl") == [pytest.approx(0.0, abs=1e-6)]
    shake(trainer.model)
    batch = rollout(trainer)
    with torch.no_grad():
        kl = [p - r for p, r in zip(logps_of(trainer.model, batch), logps_of(reference, batch), strict=True)]
    for row, of_tokens in enumerate(kl):
        ids = batch["completion_ids"][row][: len(of_tokens)].tolist()
        to_go = share_of_a([ids])[0] - 0.3 * of_tokens.flip(0).cumsum(0).flip(0)
        torch.testing.assert_close(batch["returns"][row][: len(of_tokens)], to_go, rtol=1e-4, atol=1e-4)
    metrics = trainer._metrics["train"]
    assert metrics["kl"] == [pytest.approx(torch.cat(kl).mean().item(), abs=1e-5)]
    assert metrics["non_score_reward"][-1] == pytest.approx(-0.3 * sum(k.sum().item() for k in kl) / 4, abs=1e-4)
    assert torch.cat(kl).abs().max() > 0.01


def test_a_constant_critic_sees_the_score_come_nearer_by_lambda_a_token(build):
    """All one-step differences but the last are 0, so Â_t = λ^(T−1−t) (R − c)."""
    trainer = build(lam=0.9, whiten=False)
    trainer.critic.module.head.bias.data.fill_(0.25)
    batch = rollout(trainer)
    for row, mask in enumerate(batch["completion_mask"]):
        length = int(mask.sum())
        score = share_of_a([batch["completion_ids"][row][:length].tolist()])[0]
        expected = [0.9 ** (length - 1 - t) * (score - 0.25) for t in range(length)]
        assert batch["advantages"][row].tolist() == pytest.approx(expected + [0.0] * (len(mask) - length), abs=1e-6)
        assert batch["returns"][row][:length].tolist() == pytest.approx([a + 0.25 for a in expected], abs=1e-6)


def test_a_completion_without_end_pays_the_penalty(build):
    trainer = build(
        reward=lambda completion_ids, **_: [1.0] * len(completion_ids), missing_eos_penalty=0.4,
        per_device_train_batch_size=32, lam=1.0,
    )  # fmt: skip
    batch = rollout(trainer)
    ended = (batch["completion_ids"] == END).any(dim=1)
    assert 0 < ended.sum() < 32
    assert batch["returns"][:, 0].tolist() == pytest.approx([1.0 if end else 0.6 for end in ended])


def test_a_completion_that_no_reward_applies_to_moves_nothing(build):
    trainer = build(reward=some_none, per_device_train_batch_size=16)
    batch = rollout(trainer)
    without, scored = batch["advantages"][0::2], batch["advantages"][1::2]
    assert (without == 0).all()
    assert (batch["learnt_mask"][0::2] == 0).all()
    tokens = scored[batch["completion_mask"][1::2] == 1]
    assert tokens.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert tokens.var(correction=0).item() == pytest.approx(1.0, abs=1e-4)
    guessing = build(reward=some_none, whiten=False)
    guessing.critic.module.head.bias.data.fill_(0.5)
    advantages = rollout(guessing)["advantages"]
    assert (advantages[0::2] == 0).all()
    assert (advantages[1::2] != 0).any()


def test_where_no_reward_applies_at_all_nothing_is_updated(build):
    nothing = build(reward=lambda completion_ids, **_: [None] * len(completion_ids))
    before = weights(nothing.model), weights(nothing.critic.module)
    nothing.train()
    assert same(before[0], weights(nothing.model))
    assert same(before[1], weights(nothing.critic.module))


def test_weights_of_rewards_count(build):
    trainer = build(
        reward=[share_of_a, lambda completion_ids, **_: [1.0] * len(completion_ids)], reward_weights=[2.0, 0.5], lam=1.0
    )
    batch = rollout(trainer)
    lengths = batch["completion_mask"].sum(dim=1).tolist()
    shares = share_of_a([ids[:n].tolist() for ids, n in zip(batch["completion_ids"], lengths, strict=True)])
    assert batch["returns"][:, 0].tolist() == pytest.approx([2 * share + 0.5 for share in shares])
