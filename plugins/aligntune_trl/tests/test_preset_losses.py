"""What each preset makes of TRL is the loss of its paper, written here as plain loops in double precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import exp, isnan, nan, sqrt
from typing import Any

import numpy as np
import pytest
import torch
import trl
from aligntune_trl.policy import group_arguments, rollout_arguments
from datasets import Dataset
from transformers import AutoTokenizer, set_seed

from aligntune_core.config import DapoConfig, DrGrpoConfig, GrpoConfig, GspoConfig

from .marks import heavy

GROUP, LONGEST = 4, 7  # answers to a prompt, tokens of the longest answer

PRESETS = [GrpoConfig, GspoConfig, DapoConfig, DrGrpoConfig]
Table = np.ndarray[tuple[int, int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Rollout:
    """Answers, one a row. Log-probabilities have a column a token; those from `lengths` on are padding."""

    lengths: list[int]
    truncated: list[bool]
    advantages: list[float]
    new: Table
    old: Table
    reference: Table


def clip(ratio: float, low: float, high: float) -> float:
    return min(max(ratio, 1 - low), 1 + high)


def grpo_loss(r: Rollout, *, epsilon: float = 0.2, beta: float = 0.04) -> float:
    """Shao et al. 2024, arXiv:2402.03300, eq. 3, with the estimate of the divergence of eq. 4."""
    total = 0.0
    for i, (length, advantage) in enumerate(zip(r.lengths, r.advantages, strict=True)):
        answer = 0.0
        for t in range(length):
            ratio = exp(r.new[i, t] - r.old[i, t])
            apart = r.reference[i, t] - r.new[i, t]
            divergence = exp(apart) - apart - 1
            answer += min(ratio * advantage, clip(ratio, epsilon, epsilon) * advantage) - beta * divergence
        total += answer / length
    return -total / len(r.lengths)


def gspo_loss(r: Rollout, *, low: float = 3e-4, high: float = 4e-4) -> float:
    """Zheng et al. 2025, arXiv:2507.18071, eq. 5 with the ratio of eq. 7; the clipping of section 5.1."""
    total = 0.0
    for i, (length, advantage) in enumerate(zip(r.lengths, r.advantages, strict=True)):
        ratio = exp(sum(r.new[i, t] - r.old[i, t] for t in range(length)) / length)
        total += min(ratio * advantage, clip(ratio, low, high) * advantage)
    return -total / len(r.lengths)


def dapo_loss(r: Rollout, *, low: float = 0.2, high: float = 0.28) -> float:
    """Yu et al. 2025, arXiv:2503.14476, eq. 8 over the batch; truncated answers are left out (section 3.4)."""
    total, tokens = 0.0, 0
    for i, (length, advantage) in enumerate(zip(r.lengths, r.advantages, strict=True)):
        if r.truncated[i]:
            continue
        tokens += length
        for t in range(length):
            ratio = exp(r.new[i, t] - r.old[i, t])
            total += min(ratio * advantage, clip(ratio, low, high) * advantage)
    return -total / tokens


def dr_grpo_loss(r: Rollout, *, epsilon: float = 0.2, most_tokens: int = LONGEST) -> float:
    """Liu et al. 2025, arXiv:2503.20783, eq. 3; the constant by which listing 1 divides is the longest answer."""
    total = 0.0
    for i, (length, advantage) in enumerate(zip(r.lengths, r.advantages, strict=True)):
        for t in range(length):
            ratio = exp(r.new[i, t] - r.old[i, t])
            total += min(ratio * advantage, clip(ratio, epsilon, epsilon) * advantage)
    return -total / (len(r.lengths) * most_tokens)


LOSSES: dict[type, Callable[[Rollout], float]] = {
    GrpoConfig: grpo_loss, GspoConfig: gspo_loss, DapoConfig: dapo_loss, DrGrpoConfig: dr_grpo_loss,
}  # fmt: skip
UNCLIPPED: dict[type, Callable[[Rollout], float]] = {
    GrpoConfig: partial(grpo_loss, epsilon=99.0), GspoConfig: partial(gspo_loss, low=99.0, high=99.0),
    DapoConfig: partial(dapo_loss, low=99.0, high=99.0), DrGrpoConfig: partial(dr_grpo_loss, epsilon=99.0),
}  # fmt: skip


def reference_advantages(rewards: Sequence[Sequence[float]], weights: Sequence[float], *, scaled: bool) -> list[float]:
    """Within each group the weighted sum less its mean, divided by its deviation (DeepSeekMath, section 4.1.2) or not
    (Dr. GRPO, section 3.2).

    The papers do not say what TRL documents: the deviation is that of a sample (n - 1), 1e-4 is added to it, a
    function that gave None adds nothing to a sum, and an answer that none scored takes part in nothing.
    """
    found = []
    for start in range(0, len(rewards), GROUP):
        sums = []
        for row in rewards[start : start + GROUP]:
            given = [weight * reward for weight, reward in zip(weights, row, strict=True) if not isnan(reward)]
            sums.append(sum(given) if given else nan)
        scored = [total for total in sums if not isnan(total)]
        if len(scored) < 2:
            found += [0.0] * GROUP
            continue
        mean = sum(scored) / len(scored)
        deviation = sqrt(sum((total - mean) ** 2 for total in scored) / (len(scored) - 1))
        found += [0.0 if isnan(s) else (s - mean) / (deviation + 1e-4 if scaled else 1.0) for s in sums]
    return found


@pytest.fixture
def make(tiny, tmp_path):
    """TRL's trainer with the arguments that a preset gives it."""

    def build(preset: Any, *, rewards: Any = None, base: Any = trl.GRPOTrainer, weights: Any = None, **own: Any) -> Any:
        config = preset(num_generations=GROUP, max_completion_length=LONGEST, batch_size=GROUP)
        arguments = rollout_arguments(config) | group_arguments(config) | {
            "output_dir": str(tmp_path / "out"), "per_device_train_batch_size": GROUP, "gradient_accumulation_steps": 2,
            "steps_per_generation": 2, "logging_steps": 1, "save_strategy": "no", "report_to": "none", "bf16": False,
            "use_cpu": True, "disable_tqdm": True, "gradient_checkpointing": False, "dataloader_pin_memory": False,
            "seed": 42, "max_steps": 1, "learning_rate": 1e-3, "reward_weights": weights,
            "model_init_kwargs": {"dtype": "float32"}, **own,
        }  # fmt: skip
        set_seed(42)
        return base(
            model=str(tiny),
            reward_funcs=rewards or (lambda completions, **_: [0.0] * len(completions)),
            args=trl.GRPOConfig(**arguments),
            train_dataset=Dataset.from_list([{"prompt": f"{i}, what" + " then" * (i % 3)} for i in range(16)]),
            processing_class=AutoTokenizer.from_pretrained(tiny),
        )

    return build


def random_rollout(seed: int, spread: float) -> Rollout:
    """Two groups, every length between 1 and the longest, ratios on both sides of the clipping range."""
    rng = np.random.default_rng(seed)
    rows = 2 * GROUP
    old = rng.normal(-2, 1, (rows, LONGEST))
    return Rollout(
        lengths=[int(n) for n in rng.permutation([1, 2, 3, 4, 5, LONGEST, LONGEST, LONGEST])],
        truncated=[bool(flag) for flag in rng.permutation([True, True, *[False] * 6])],
        advantages=rng.normal(0, 1, rows).tolist(),
        new=old + rng.normal(0, spread, old.shape),
        old=old,
        reference=old + rng.normal(0, 0.5, old.shape),
    )


def as_batch(rollout: Rollout, *, filtered: bool) -> dict[str, torch.Tensor]:
    """As TRL hands it to the loss: truncated answers have no token left in the mask where they are filtered."""
    mask = torch.tensor([[int(t < length) for t in range(LONGEST)] for length in rollout.lengths])
    if filtered:
        mask[torch.tensor(rollout.truncated)] = 0
    return {
        "prompt_ids": torch.ones(len(mask), 3, dtype=torch.int64),
        "prompt_mask": torch.ones(len(mask), 3, dtype=torch.int64),
        "completion_ids": torch.ones_like(mask),
        "completion_mask": mask,
        "advantages": torch.tensor(rollout.advantages, dtype=torch.float64),
        "old_per_token_logps": torch.tensor(rollout.old),
        "ref_per_token_logps": torch.tensor(rollout.reference),
        "num_items_in_batch": mask.sum(),
    }


def trl_loss(trainer: Any, rollout: Rollout) -> tuple[float, torch.Tensor]:
    """TRL's loss, accumulated over two micro-batches, and its gradient with respect to the log-probabilities."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 2
    batch = as_batch(rollout, filtered=trainer.mask_truncated_completions)
    new = torch.tensor(rollout.new, requires_grad=True)
    total = torch.zeros((), dtype=torch.float64)
    for rows in (slice(0, GROUP), slice(GROUP, 2 * GROUP)):
        part = {name: value[rows] if value.ndim else value for name, value in batch.items()}
        trainer._get_per_token_logps_and_entropies = lambda *a, _new=new[rows], **k: (
            _new,
            torch.zeros_like(_new),
            None,
        )
        total = total + trainer.compute_loss(trainer.model, part)
    total.backward()
    assert new.grad is not None
    return float(total.detach()), new.grad


def slope(loss: Callable[[Rollout], float], rollout: Rollout) -> Table:
    """The gradient of a loss with respect to the log-probabilities, by central differences."""
    found = np.zeros_like(rollout.new)
    for place in np.ndindex(*found.shape):
        ends = []
        for step in (1e-6, -1e-6):
            moved = rollout.new.copy()
            moved[place] += step
            ends.append(loss(replace(rollout, new=moved)))
        found[place] = (ends[0] - ends[1]) / 2e-6
    return found


@pytest.mark.parametrize("preset", PRESETS)
def test_the_loss_and_its_gradient_are_the_papers(make, preset):
    trainer = make(preset)
    spread = 1e-3 if preset is GspoConfig else 0.5
    for seed in range(3):
        rollout = random_rollout(seed, spread)
        found, gradient = trl_loss(trainer, rollout)
        assert found == pytest.approx(LOSSES[preset](rollout), abs=1e-9)
        assert abs(found - UNCLIPPED[preset](rollout)) > 1e-6  # or clipping would not be tested
        np.testing.assert_allclose(gradient.numpy(), slope(LOSSES[preset], rollout), atol=1e-7, rtol=0)


def test_a_preset_is_not_the_loss_of_another_paper(make):
    """Otherwise the test above could not tell them apart."""
    rollout = random_rollout(0, 0.5)
    losses = [loss(rollout) for loss in LOSSES.values()]
    assert all(abs(left - right) > 1e-2 for i, left in enumerate(losses) for right in losses[:i])


@pytest.mark.parametrize("preset", PRESETS)
def test_the_advantages_are_the_papers(make, preset):
    """Rewards of two functions, some None: one missing, both missing, one of a group left, none of a group left."""
    rng = np.random.default_rng(7)
    rewards = rng.integers(-8, 9, (6 * GROUP, 2)) / 4
    rewards[[0, 5, 9], [0, 1, 0]] = nan
    rewards[[2, 8, 12, 13, 14]] = nan
    rewards[16:20] = nan
    rewards[20:] = 0.5

    def one(column: int) -> Any:
        return lambda **_: [None if isnan(value) else float(value) for value in rewards[:, column]]

    trainer = make(preset, rewards=[one(0), one(1)], weights=[1.0, 0.25], generation_kwargs={"max_new_tokens": 2})
    trainer.model.train()
    inputs = [{"prompt": f"{i // GROUP}"} for i in range(len(rewards))]
    torch.set_default_dtype(torch.float64)  # TRL puts rewards into a tensor of the default type
    try:
        batch = trainer._generate_and_score_completions(inputs)
    finally:
        torch.set_default_dtype(torch.float32)
    scaled = preset is not DrGrpoConfig
    expected = reference_advantages(rewards.tolist(), [1.0, 0.25], scaled=scaled)
    assert batch["advantages"].dtype == torch.float64
    np.testing.assert_allclose(batch["advantages"].numpy(), expected, atol=1e-9, rtol=0)
    assert max(map(abs, expected)) > 1
    assert batch["completion_mask"].any() == (preset is not DapoConfig)  # all answers are truncated


def rollout_for_training(trainer: Any, spread: float) -> dict[str, torch.Tensor]:
    """Four answers of different lengths, by a policy that is a little off."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.tensor([[int(t < length) for t in range(LONGEST)] for length in (7, 2, 4, 1)])
    ids = torch.randint(5, 900, (4, 3 + LONGEST), generator=generator)
    whole = torch.cat([torch.ones(4, 3, dtype=torch.int64), mask], dim=1)
    with torch.no_grad():
        logps, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, whole, LONGEST)
    noise = [torch.randn(logps.shape, generator=generator) for _ in range(2)]
    return {
        "prompt_ids": ids[:, :3], "prompt_mask": whole[:, :3], "completion_ids": ids[:, 3:], "completion_mask": mask,
        "advantages": torch.tensor([1.0, -0.5, 0.7, -1.2]), "old_per_token_logps": logps + spread * noise[0],
        "ref_per_token_logps": logps + noise[1], "num_items_in_batch": mask.sum(),
    }  # fmt: skip


@pytest.mark.parametrize("preset", [GrpoConfig, heavy(GspoConfig), DapoConfig, heavy(DrGrpoConfig)])
def test_how_a_rollout_is_cut_does_not_change_the_step(make, preset):
    """4 answers x 1 pass, 2 x 2 and 1 x 4: one optimiser step on the same rollout, by TRL's own loop."""
    rollout: dict[str, torch.Tensor] = {}

    class Fixed(trl.GRPOTrainer):
        def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
            assert len(inputs) == GROUP
            return dict(rollout)

    moved = {}
    for size, passes in ((4, 1), (2, 2), (1, 4)):
        trainer = make(
            preset, base=Fixed, per_device_train_batch_size=size, gradient_accumulation_steps=passes,
            steps_per_generation=passes, optim="sgd", learning_rate=1.0, lr_scheduler_type="constant",
            max_grad_norm=0.0,
        )  # fmt: skip
        rollout.update(rollout_for_training(trainer, 3e-4 if preset is GspoConfig else 0.3))
        before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        trainer.train()
        moved[size] = torch.cat([(p.detach() - before[name]).flatten() for name, p in trainer.model.named_parameters()])
    assert moved[4].norm() > 1e-3
    for size in (1, 2):
        assert (moved[size] - moved[4]).norm() < 1e-4 * moved[4].norm()


@pytest.mark.parametrize("preset", [GrpoConfig, heavy(GspoConfig), DapoConfig, heavy(DrGrpoConfig)])
def test_a_constant_reward_gives_no_update(make, preset):
    """But for the divergence, which pulls towards the reference model whatever the rewards are."""
    trainer = make(preset, rewards=lambda completions, **_: [0.5] * len(completions), beta=0.0, max_steps=2)
    before = {name: p.detach().clone() for name, p in trainer.model.state_dict().items()}
    trainer.train()
    assert all(torch.equal(p, before[name]) for name, p in trainer.model.state_dict().items())
    assert trainer.state.log_history[0]["frac_reward_zero_std"] == 1.0
