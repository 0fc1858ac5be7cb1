"""Whose reward a run follows: a file named on the command line, an installed plugin's, a model's that learnt chats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from aligntune_trl.tiny import write_tiny_model
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, GPT2Config, GPT2ForSequenceClassification

from aligntune_core import DivergedError, RewardError
from aligntune_core.cli.main import run
from aligntune_core.discovery import PLUGINS
from aligntune_core.runs.metrics import read

QUESTIONS = [{"prompt": f"q{number} "} for number in range(8)]
CHATS: list[dict[str, Any]] = [{"prompt": [{"role": "user", "content": f"q{number}"}]} for number in range(8)]
SHORT: dict[str, Any] = {
    "batch_size": 4, "gradient_accumulation_steps": 1, "num_generations": 2, "max_completion_length": 4, "max_steps": 2,
    "logging_steps": 1,
}  # fmt: skip
PLUGIN = """
from aligntune_core import Reward, hookimpl, text_of

def vowels(*, worth: float = 1.0):
    "The share of vowels."
    return lambda completion: worth * sum(letter in "aeiou" for letter in text_of(completion))

@hookimpl
def provides_rewards():
    return [Reward("vowels", make=vowels)]
"""


def test_a_function_of_a_file_is_named_by_a_flag(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS), "utf-8")
    Path("score.py").write_text("def tidy(completion):\n    return float(len(completion))\n", "utf-8")
    Path("run.json").write_text(
        json.dumps({"algorithm": "grpo", "backend": "trl", "model_name": str(tiny), "dataset_name": "rows.jsonl",
                    "output_dir": "run", **SHORT})
    )  # fmt: skip
    assert run(["train", "run.json", "--reward-functions", "score.py:tidy"]) == 0
    rewards = [row["rewards/tidy/mean"] for row in read(Path("run/metrics.jsonl")) if row["split"] == "train"]
    assert len(rewards) == 2
    assert all(reward > 0 for reward in rewards)


@pytest.fixture
def answer(align: Any, tiny: Path, tmp_path: Path) -> Any:
    """A GRPO trainer on the tiny model, which knows conversations; any setting may be given."""

    def build(**settings: Any) -> Any:
        given = {"model_name": str(tiny), "train_dataset": QUESTIONS, "reward_functions": None, **SHORT}
        return align("grpo", **{**given, **settings})

    return build


def test_a_plugins_reward_is_named_like_a_built_in_one(answer, install_plugin):
    install_plugin("vowels", PLUGIN, group=PLUGINS)
    trainer = answer(reward_functions=["vowels", {"name": "vowels", "worth": 2.0}])
    trainer.train()
    row = read(trainer.run_dir / "metrics.jsonl")[0]
    assert row["rewards/vowels/mean"] > 0
    assert row["reward"] == pytest.approx(3 * row["rewards/vowels/mean"])


def test_a_reward_model_that_learnt_chats_scores_chats(align, answer, tiny):
    answers = [[{"role": "assistant", "content": text}] for text in ("yes", "no")]
    pairs = [row | {"chosen": answers[0], "rejected": answers[1]} for row in CHATS]
    learnt = align("reward", model_name=str(tiny), train_dataset=pairs, batch_size=4, max_steps=4, learning_rate=1e-2)
    learnt.train()
    expected = learnt.predict([CHATS[0]["prompt"] + answer for answer in answers])
    assert expected[0] > expected[1]
    trainer = answer(train_dataset=CHATS, reward_model_name=str(learnt.run_dir))
    scorer = trainer.native.reward_funcs[0]
    assert scorer([CHATS[0]["prompt"]] * 2, answers) == pytest.approx(expected, abs=1e-5)
    trainer.train()
    assert "rewards/reward/mean" in read(trainer.run_dir / "metrics.jsonl")[0]


def test_a_reward_model_that_has_too_few_positions_for_an_answer_is_named(answer, tiny, tmp_path):
    judge = tmp_path / "judge"
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=3, n_embd=16, n_layer=1, n_head=2, num_labels=1,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    GPT2ForSequenceClassification(config).save_pretrained(judge)
    tokenizer.save_pretrained(judge)
    with pytest.raises(RewardError, match=r"judge.*cannot score an answer") as caught:
        answer(reward_model_name=str(judge)).train()
    assert caught.value.field == "reward_model_name"


def test_a_reward_model_whose_scores_are_no_numbers_stops_the_run(answer, tmp_path):
    judge = tmp_path / "judge"
    write_tiny_model("classification", judge)
    weights = load_file(judge / "model.safetensors")
    weights["score.weight"] = torch.full_like(weights["score.weight"], torch.nan)
    save_file(weights, judge / "model.safetensors", {"format": "pt"})
    with pytest.raises(DivergedError, match=r"reward = nan"):
        answer(reward_model_name=str(judge)).train()
