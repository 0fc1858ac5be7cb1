"""PPO's arithmetic against loops in NumPy, written from the papers, in float64, on random masks and lengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch
from aligntune_trl.ppo import numerics
from hypothesis import given, settings
from hypothesis import strategies as st

Floats = npt.NDArray[np.float64]
EXACT = {"rtol": 0, "atol": 1e-6}


@dataclass
class Rollout:
    """Rewards, values and a mask of action tokens, all (completions, tokens)."""

    rewards: Floats
    values: Floats
    mask: npt.NDArray[np.int64]

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return torch.tensor(self.rewards), torch.tensor(self.values), torch.tensor(self.mask)


@st.composite
def rollouts(draw: st.DrawFn) -> Rollout:
    """Completions of any length, padded, with gaps where a tool wrote, and rubbish where there is no action."""
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lengths = random.integers(0, columns + 1, rows)
    mask = (np.arange(columns) < lengths[:, None]) & (random.random((rows, columns)) < draw(st.sampled_from([0.6, 1])))
    rewards, values = (random.normal(0, draw(st.sampled_from([0.1, 3.0])), (rows, columns)) for _ in range(2))
    rewards[~mask], values[~mask] = np.nan, 1e9
    return Rollout(rewards, values, mask.astype(np.int64))


def reference_advantages(rollout: Rollout, gamma: float, lam: float) -> tuple[Floats, Floats]:
    """Schulman et al. 2015: eq. 10 for δ, eq. 16 for the sum; the state after the last action is worth 0."""
    advantages, returns = np.zeros_like(rollout.values), np.zeros_like(rollout.values)
    for row in range(len(rollout.values)):
        steps = [t for t in range(rollout.values.shape[1]) if rollout.mask[row, t]]
        reward = [rollout.rewards[row, t] for t in steps]
        value = [rollout.values[row, t] for t in steps] + [0.0]
        delta = [reward[k] + gamma * value[k + 1] - value[k] for k in range(len(steps))]
        for k, t in enumerate(steps):
            advantages[row, t] = sum((gamma * lam) ** later * delta[k + later] for later in range(len(steps) - k))
            returns[row, t] = advantages[row, t] + value[k]
    return advantages, returns


def alone(x: torch.Tensor) -> torch.Tensor:
    """The sum over one process."""
    return x


@given(rollouts(), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_advantages_and_returns_are_those_of_the_paper(rollout, gamma, lam):
    found = numerics.advantages_and_returns(*rollout.tensors(), gamma, lam)
    for mine, expected in zip(found, reference_advantages(rollout, gamma, lam), strict=True):
        assert mine.dtype == torch.float64
        np.testing.assert_allclose(mine.numpy(), expected, **EXACT)


@given(rollouts())
@settings(max_examples=50, deadline=None)
def test_without_discount_and_with_lambda_1_the_return_is_the_sum_of_the_rewards_to_go(rollout):
    _, returns = numerics.advantages_and_returns(*rollout.tensors(), 1.0, 1.0)
    given_rewards = np.where(rollout.mask, rollout.rewards, 0.0)
    to_go = given_rewards[:, ::-1].cumsum(axis=1)[:, ::-1] * rollout.mask
    np.testing.assert_allclose(returns.numpy(), to_go, **EXACT)


@given(rollouts(), st.sampled_from([0.0, 0.05, 0.2, 10.0]))
@settings(max_examples=100, deadline=None)
def test_the_value_loss_is_half_the_larger_of_the_plain_and_the_clipped_squared_error(rollout, cliprange):
    random = np.random.default_rng(0)
    values, returns = random.normal(size=rollout.values.shape), random.normal(size=rollout.values.shape)
    loss, clipped = numerics.clipped_value_loss(
        torch.tensor(values), torch.tensor(rollout.values), torch.tensor(returns), cliprange
    )
    for place in np.ndindex(values.shape):
        v, old, target = values[place], rollout.values[place], returns[place]
        held = min(max(v, old - cliprange), old + cliprange)
        plain, bounded = (v - target) ** 2, (held - target) ** 2
        assert loss[place].item() == pytest.approx(0.5 * max(plain, bounded), rel=1e-9, abs=1e-6)
        assert clipped[place].item() == (bounded > plain)


def test_a_value_that_moved_too_far_gets_no_gradient_to_move_on():
    values = torch.tensor([0.5, -0.5, 0.05], dtype=torch.float64, requires_grad=True)
    old, returns = torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    numerics.clipped_value_loss(values, old, returns, 0.2)[0].sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([0.0, -1.5, -0.95])


@given(rollouts(), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_whitened_advantages_have_mean_0_and_variance_1_over_all_processes_tokens(rollout, cut):
    """Two processes, each with some of the rows: their sums are added, as the accelerator does."""
    values, mask = rollout.tensors()[1:]
    parts = [(values[:cut], mask[:cut]), (values[cut:], mask[cut:])]
    found = torch.cat([numerics.whiten(*part, shared(parts, part)) for part in parts])
    tokens = rollout.values[rollout.mask == 1]
    expected = np.zeros_like(rollout.values)
    if tokens.size:
        expected[rollout.mask == 1] = (tokens - tokens.mean()) / np.sqrt(tokens.var() + 1e-8)
    np.testing.assert_allclose(found.numpy(), expected, **EXACT)


def shared(parts: list[tuple[torch.Tensor, torch.Tensor]], mine: object) -> Callable[[torch.Tensor], torch.Tensor]:
    """A sum over processes that run one after the other: the others' terms of the mean, then of the variance."""
    tokens = torch.cat([values[mask == 1] for values, mask in parts])
    count = torch.tensor(float(tokens.numel()), dtype=tokens.dtype)
    answers = iter([torch.stack([tokens.sum(), count]), torch.stack([((tokens - tokens.mean()) ** 2).sum(), count])])
    return lambda own: next(answers)


@given(rollouts())
@settings(max_examples=50, deadline=None)
def test_the_score_stands_at_the_last_action_and_nowhere_else(rollout):
    scores = torch.arange(1.0, len(rollout.mask) + 1, dtype=torch.float64)
    placed = numerics.at_last_action(scores, torch.tensor(rollout.mask)).numpy()
    for row, actions in enumerate(rollout.mask):
        expected = np.zeros(len(actions))
        if actions.any():
            expected[np.flatnonzero(actions)[-1]] = row + 1
        np.testing.assert_array_equal(placed[row], expected)


@given(rollouts())
@settings(max_examples=50, deadline=None)
def test_k1_is_the_difference_of_the_log_probabilities_where_the_policy_acted(rollout):
    logps, reference, mask = rollout.tensors()
    found = numerics.k1(logps, reference, mask).numpy()
    np.testing.assert_allclose(found, np.where(rollout.mask, rollout.rewards - rollout.values, 0.0), **EXACT)


@given(rollouts(), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_explained_variance_is_1_for_a_perfect_critic_and_0_for_a_constant_one(rollout, guess):
    returns, mask = torch.tensor(np.where(rollout.mask, rollout.rewards, np.nan)), torch.tensor(rollout.mask)
    tokens = rollout.rewards[rollout.mask == 1]
    constant = torch.full_like(returns, guess)
    perfect, useless = (numerics.explained_variance(v, returns, mask, alone).item() for v in (returns, constant))
    if tokens.size < 2:
        assert np.isnan([perfect, useless]).all()
    else:
        assert (perfect, useless) == pytest.approx((1.0, 0.0), abs=1e-6)
