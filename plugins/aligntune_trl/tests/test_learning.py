"""It learns: every preset raises a simple reward, DPO prefers what it was shown, a reward model finds the rule."""

from __future__ import annotations

import random

import pytest

from aligntune_core.runs.metrics import read

from .marks import heavy

WORDS = [*"abcdefghij"]
PRESETS = {
    "grpo": {"max_steps": 30},
    "gspo": {"max_steps": 30, "steps_per_generation": 2, "num_generations": 8},
    "dapo": {"max_steps": 30},
    "dr_grpo": {"max_steps": 30},
    "ppo": {"max_steps": 40, "num_generations": 1, "num_iterations": 2, "critic_learning_rate": 1e-2},
}


def rewards(trainer) -> list[float]:
    return [row["reward"] for row in read(trainer.run_dir / "metrics.jsonl") if "reward" in row]


@pytest.mark.parametrize("algorithm", [name if name in ("grpo", "ppo") else heavy(name) for name in PRESETS])
def test_each_preset_raises_a_simple_reward(align, algorithm):
    """The share of one word of ten, from below 0.2 to above 0.6."""
    settings = {"batch_size": 32, "learning_rate": 5e-3, "lr_scheduler": "constant", **PRESETS[algorithm]}
    trainer = align(algorithm, train_dataset=[{"prompt": w} for w in WORDS * 12], **settings)
    trainer.train()
    found = rewards(trainer)
    assert sum(found[:3]) / 3 < 0.2
    assert sum(found[-3:]) / 3 > 0.6


def pairs(count: int, seed: int) -> list[dict[str, str]]:
    """The chosen answer has more a, the rejected one more b."""
    draw = random.Random(seed)  # noqa: S311
    return [
        {
            "prompt": " ".join(draw.choices(WORDS, k=3)) + " ",
            "chosen": " ".join(draw.choices(["a", *WORDS[2:]], [6, *[1] * 8], k=5)),
            "rejected": " ".join(draw.choices(["b", *WORDS[2:]], [6, *[1] * 8], k=5)),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_dpo_prefers_what_it_was_shown_and_what_is_like_it(align, lora):
    train, held_back = pairs(64, 1), pairs(32, 2)
    settings = {"num_epochs": 4, "learning_rate": 1e-2 if lora else 3e-3, "use_peft": lora, "train_dataset": train}
    trainer = align("dpo", **settings, eval_dataset=held_back)
    assert trainer.evaluate()["eval_rewards/margins"] == 0.0
    trainer.train()
    assert trainer.evaluate()["eval_rewards/accuracies"] > 0.7
    on_train = [row["rewards/accuracies"] for row in read(trainer.run_dir / "metrics.jsonl") if row["split"] == "train"]
    assert sum(on_train[-8:]) / 8 > 0.9


def by_length(count: int, seed: int) -> list[dict[str, str]]:
    """The longer answer is the chosen one."""
    draw = random.Random(seed)  # noqa: S311
    return [
        {
            "prompt": " ".join(draw.choices(WORDS, k=2)) + " ",
            "chosen": " ".join(draw.choices(WORDS, k=draw.randint(6, 9))),
            "rejected": " ".join(draw.choices(WORDS, k=draw.randint(1, 4))),
        }
        for _ in range(count)
    ]


def test_a_reward_model_finds_the_rule_that_explains_the_pairs(align):
    trainer = align(
        "reward", train_dataset=by_length(64, 1), eval_dataset=by_length(32, 2), num_epochs=4, learning_rate=5e-3
    )
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] > 0.9
    long, short = trainer.predict(["a b a b c d e f g", "a b c"])
    assert long > short
