"""PPO on a model of twelve words: its gradient, its losses, its critic, its checkpoints, and that it learns."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trl
from aligntune_trl.loop import guarded
from aligntune_trl.ppo import ppo_config_class, ppo_trainer_class
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Qwen2Config,
    Qwen2ForCausalLM,
    TrainerCallback,
)

from aligntune_core import ConfigError, DivergedError

WORDS = [*"abcdefghij"]
PAD, END, A = 0, 1, 2
LORA = LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM")
Build = Callable[..., Any]


@pytest.fixture(scope="module")
def words() -> Any:
    """A tokenizer that knows ten words, padding and the end."""
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<end>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))  # noqa: S106 - no password
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",  # noqa: S106
        eos_token="<end>",  # noqa: S106
        unk_token="<pad>",  # noqa: S106
    )


@pytest.fixture(scope="module")
def micro(words: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "micro"
    config = Qwen2Config(
        vocab_size=12, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=END, pad_token_id=PAD, attention_dropout=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(path)
    words.save_pretrained(path)
    return path


def share_of_a(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """The share of one word in a completion."""
    return [sum(token == A for token in ids) / len(ids) for ids in completion_ids]


@pytest.fixture
def build(micro: Path, words: Any, tmp_path: Path) -> Build:
    """A PPO trainer on the micro model; any argument of the config or of the trainer may be given."""

    def make(model: Any = None, *, reward: Any = share_of_a, peft: Any = None, **given: Any) -> Any:
        ours: dict[str, Any] = {
            "gamma": 1.0, "lam": 0.95, "kl_coef": 0.0, "vf_coef": 0.1, "cliprange_value": 0.2, "critic": "model",
            "critic_learning_rate": 1e-3, "whiten": True, "missing_eos_penalty": None, "critic_lora": None,
        }  # fmt: skip
        ours |= {name: given.pop(name) for name in list(given) if name in ours}
        defaults: dict[str, Any] = {
            "output_dir": str(tmp_path / "run"), "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1,
            "max_completion_length": 6, "learning_rate": 1e-3, "max_steps": 1, "logging_steps": 1,
            "save_strategy": "no", "lr_scheduler_type": "constant", "weight_decay": 0.0, "bf16": False, "use_cpu": True,
            "report_to": "none", "disable_tqdm": True, "gradient_checkpointing": False, "logging_nan_inf_filter": False,
            "dataloader_pin_memory": False, "seed": 3,
        }  # fmt: skip
        random = np.random.default_rng(0)
        prompts = [" ".join(random.choice(WORDS, random.integers(1, 5))) for _ in range(64)]
        rows = [{"prompt": prompt, "number": number} for number, prompt in enumerate(prompts)]
        trainer = ppo_trainer_class(guarded(trl.GRPOTrainer))(
            model=str(micro) if model is None else model,
            args=ppo_config_class(trl.GRPOConfig)(**{**defaults, **given}),
            reward_funcs=reward, train_dataset=Dataset.from_list(rows), eval_dataset=Dataset.from_list(rows[:4]),
            processing_class=copy.deepcopy(words), peft_config=peft, **ours,
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        return trainer

    return make


def weights(module: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], **tolerance: float) -> bool:
    return one.keys() == other.keys() and all(torch.allclose(one[name], other[name], **tolerance) for name in one)


def rollout(trainer: Any) -> dict[str, Any]:
    """A rollout as the trainer makes it, in the rows' own order."""
    trainer.model.train()
    count = trainer.args.per_device_train_batch_size * trainer.args.steps_per_generation
    batch: dict[str, Any] = trainer._generate_and_score_completions([trainer.train_dataset[i] for i in range(count)])
    return batch


def logps_of(model: Any, batch: dict[str, Any]) -> list[torch.Tensor]:
    """The log-probabilities of each completion's tokens, one completion at a time and without padding."""
    found = []
    for row in range(len(batch["completion_ids"])):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row] == 1]
        completion = batch["completion_ids"][row][batch["completion_mask"][row] == 1]
        logits = model(input_ids=torch.cat([prompt, completion])[None]).logits[0, len(prompt) - 1 : -1]
        found.append(torch.log_softmax(logits, -1).gather(1, completion[:, None])[:, 0])
    return found


def shake(model: Any, size: float = 0.1) -> Any:
    """Move the trained weights, so that adapters do something and the policy is no longer its reference."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += size * torch.randn_like(parameter)
    return model


# The policy


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
@pytest.mark.parametrize("peft", [None, LORA], ids=["full", "lora"])
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


@pytest.mark.parametrize("critic", ["model", "head"])
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
    assert np.mean(explained[-4:]) > 0.05


# The reward of each token


def chained(micro: Path) -> Any:
    """A model that has a trained adapter already."""
    torch.manual_seed(2)
    return shake(get_peft_model(AutoModelForCausalLM.from_pretrained(micro), LORA))


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


def some_none(completion_ids: list[list[int]], number: list[int], **_: Any) -> list[float | None]:
    """A reward for every other row."""
    shares = share_of_a(completion_ids)
    return [share if n % 2 else None for share, n in zip(shares, number, strict=True)]


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


# The critic


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


# Whole runs


def test_a_run_logs_what_ppo_has_and_not_what_only_groups_have(build):
    trainer = build(kl_coef=0.05, per_device_train_batch_size=8, log_completions=False)
    trainer.train()
    row = trainer.state.log_history[0]
    expected = {"value_loss", "value_clip_ratio", "explained_variance", "values_mean", "returns_mean", "kl",
                "non_score_reward", "reward", "entropy", "clip_ratio/region_mean"}  # fmt: skip
    assert expected <= row.keys()
    assert "frac_reward_zero_std" not in row
    batch = trainer._buffered_inputs[0]
    means = batch["advantages"].sum(dim=1) / batch["completion_mask"].sum(dim=1)
    assert sorted(trainer._logs["advantages"]) == pytest.approx(sorted(means.tolist()))


def test_evaluation_samples_and_scores_without_learning(build):
    trainer = build(per_device_eval_batch_size=2, kl_coef=0.1)
    before = weights(trainer.critic.module)
    numbers = trainer.evaluate()
    assert {"eval_loss"} <= numbers.keys()
    logged = trainer.state.log_history[-1]
    assert {"eval_reward", "eval_kl", "eval_values_mean"} <= logged.keys()
    assert same(before, weights(trainer.critic.module))


def test_several_completions_a_prompt_are_legal_and_one_alone_is_not(build):
    trainer = build(num_generations=2, max_steps=2)
    trainer.train()
    assert trainer.num_generations == 2
    assert build(per_device_train_batch_size=1, gradient_accumulation_steps=2).num_generations == 1
    with pytest.raises(ConfigError, match="batch_size = 1: a rollout of one completion"):
        build(per_device_train_batch_size=1)


@pytest.mark.parametrize("critic", ["model", "head"])
@pytest.mark.parametrize("start", ["full", "lora", "chained"])
def test_a_resumed_run_ends_with_the_same_bits(build, micro, tmp_path, critic, start):
    """Rollouts of 2 × 4 completions, used for 2 updates twice: a rollout ends at every fourth update."""
    given = {
        "gradient_accumulation_steps": 1, "steps_per_generation": 2, "num_iterations": 2, "max_steps": 12,
        "lr_scheduler_type": "cosine", "save_strategy": "steps", "save_steps": 4, "critic": critic, "kl_coef": 0.05,
        "peft": LORA if start == "lora" else None, "weight_decay": 0.01,
    }  # fmt: skip
    whole, resumed = (
        build(chained(micro) if start == "chained" else None, **given, output_dir=str(tmp_path / name))
        for name in ("whole", "resumed")
    )
    whole.train()
    checkpoint = tmp_path / "whole" / "checkpoint-4"
    assert sorted(path.name for path in (checkpoint / "critic").iterdir()) == ["critic.safetensors", "optimizer.pt"]
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert same(weights(whole.model), weights(resumed.model))
    assert same(weights(whole.critic.module), weights(resumed.critic.module))
    assert whole.state.log_history[-2]["value_loss"] == resumed.state.log_history[-2]["value_loss"]


def test_a_checkpoint_with_another_critic_or_none_is_refused(build, tmp_path):
    given = {"save_strategy": "steps", "save_steps": 1}
    build(**given).train()
    checkpoint = tmp_path / "run" / "checkpoint-1"
    with pytest.raises(ConfigError, match="critic = 'head': the checkpoint's critic is critic: model"):
        build(**given, critic="head", max_steps=2).train(resume_from_checkpoint=str(checkpoint))
    (checkpoint / "critic" / "critic.safetensors").unlink()
    with pytest.raises(ConfigError, match="this checkpoint has no critic; resume from one of PPO"):
        build(**given, max_steps=2).train(resume_from_checkpoint=str(checkpoint))


# What it cannot do


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        (
            "deepspeed_plugin",
            object(),
            "deepspeed = .*: PPO's critic is outside DeepSpeed's engine; start with torchrun",
        ),
        ("fsdp", True, "fsdp = True: PPO's critic is not sharded by FSDP; start with torchrun"),
        ("fp16", True, "precision = 'fp16': fp16 needs its gradients scaled, .*; set precision: bf16 or fp32"),
    ],
)
def test_what_the_critic_cannot_follow_is_refused(micro, tmp_path, argument, value, message):
    args = ppo_config_class(trl.GRPOConfig)(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    setattr(args, argument, value)
    with pytest.raises(ConfigError, match=message):
        ppo_trainer_class(trl.GRPOTrainer)(
            str(micro), args=args, reward_funcs=share_of_a, gamma=1.0, lam=0.95, kl_coef=0.0, vf_coef=0.1,
            cliprange_value=0.2, critic="model", critic_learning_rate=1e-3, whiten=True,
        )  # fmt: skip


def test_a_quantised_policy_has_a_head_for_a_critic_and_no_copy(build, micro):
    def quantised() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return AutoModelForCausalLM.from_pretrained(
                micro, quantization_config=BitsAndBytesConfig(load_in_4bit=True), device_map={"": "cpu"}
            )

    with pytest.raises(ConfigError, match=r"critic = 'model': .*; set critic: head"):
        build(quantised(), peft=LORA)
    trainer = build(quantised(), peft=LORA, critic="head")
    assert isinstance(trainer.model, PeftModel)
    trainer.train()
    assert trainer.state.log_history[0]["value_loss"] > 0
