"""A tiny model, a few rows, and one way to train them through AlignTune's public door."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from aligntune_trl import base, generate
from aligntune_trl.tiny import write_tiny_model

from aligntune import Trainer, create_rl_trainer, create_sft_trainer
from aligntune_core.demo import rows

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # each of the parallel workers takes one core

Train = Callable[..., Trainer]
WORDS = [*"abcdefghij"]
PAD, END = 0, 1


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained model never ends an answer; a few tokens are enough here."""
    monkeypatch.setattr(generate, "LONGEST_ANSWER", 24)
    monkeypatch.setattr(base, "LONGEST_SAMPLE", 8)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer causal model with its tokenizer."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    assert write_tiny_model("causal_lm", path)
    return path


@pytest.fixture(scope="session")
def verbatim_rows() -> list[dict[str, str]]:
    """Twenty rows of prompt and completion of different lengths: windows of eight leave a partial one."""
    return [{"prompt": r["instruction"] + "\n", "completion": r["output"]} for r in rows()[:20]]


@pytest.fixture(scope="session")
def row_file(tmp_path_factory: pytest.TempPathFactory, verbatim_rows: list[dict[str, str]]) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in verbatim_rows), "utf-8")
    return path


@pytest.fixture
def make(tiny: Path, row_file: Path, tmp_path: Path) -> Train:
    """A trainer on the tiny model and rows; any setting may be given."""

    def build(**settings: Any) -> Trainer:
        defaults: dict[str, Any] = {
            "backend": "trl", "model_name": str(tiny), "output_dir": str(tmp_path / "run"), "batch_size": 4,
            "gradient_accumulation_steps": 2, "learning_rate": 1e-3, "logging_steps": 1, "max_seq_length": 128,
        }  # fmt: skip
        if "train_dataset" not in settings:
            defaults["dataset_name"] = str(row_file)
        trainer = create_sft_trainer(**{**defaults, **settings})
        trainer.listen()
        return trainer

    return build


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of twelve words, small enough to learn within seconds: padding, the end, and ten letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    path = tmp_path_factory.mktemp("models") / "micro"
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<end>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))  # noqa: S106 - no password
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    config = Qwen2Config(
        vocab_size=12, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=END, pad_token_id=PAD,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(path)
    named = {"pad_token": "<pad>", "eos_token": "<end>", "unk_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=core, **named).save_pretrained(path)
    return path


def share_of_a(completion: str) -> float:
    """The share of one word in an answer."""
    letters = completion.replace(" ", "")
    return letters.count("a") / len(letters) if letters else 0.0


def micro_prompts(count: int) -> list[dict[str, Any]]:
    draw = random.Random(0)  # noqa: S311
    return [{"prompt": " ".join(draw.choices(WORDS, k=draw.randint(1, 4)))} for _ in range(count)]


@pytest.fixture
def align(micro: Path, tmp_path: Path) -> Train:
    """A trainer of any algorithm but SFT on the model of twelve words; any setting may be given."""

    def build(algorithm: str, **settings: Any) -> Trainer:
        defaults: dict[str, Any] = {
            "backend": "trl", "model_name": str(micro), "output_dir": str(tmp_path / algorithm), "batch_size": 8,
            "gradient_accumulation_steps": 1, "learning_rate": 1e-3, "logging_steps": 1,
        }  # fmt: skip
        if algorithm not in ("dpo", "reward"):
            defaults |= {
                "train_dataset": micro_prompts(32), "reward_functions": [share_of_a], "max_completion_length": 6,
                "num_generations": 4, "overlong_cache": 0,
            }  # fmt: skip
        if algorithm in ("grpo", "gspo", "dapo", "dr_grpo"):
            defaults |= {"mask_truncated_completions": False}
        trainer = create_rl_trainer(algorithm=algorithm, **{**defaults, **settings})
        trainer.listen()
        return trainer

    return build
