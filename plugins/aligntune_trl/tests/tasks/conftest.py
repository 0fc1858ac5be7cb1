"""Tiny models of each kind, rows whose labels follow from their words, and ways to train the one on the other."""

from __future__ import annotations

import random
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from aligntune_trl.tiny import write_tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizer,
)

from aligntune import create_sft_trainer

WORDS = ("river", "cloud", "stone", "map", "salt", "moss", "bread", "violin")
ROWS: list[dict[str, Any]] = [{"prompt": f"Spell {word}: ", "completion": word} for word in WORDS]
COLOURS, ANIMALS = ("red", "green", "blue"), ("cat", "dog", "cow")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "encoder"
    write_tiny_model("causal_lm", path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    (path / "model.safetensors").unlink()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        max_position_embeddings=64, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertForMaskedLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny RoBERTa: 34 positions of which 32 can be read; its tokenizer reads a word after a space as another."""
    path = tmp_path_factory.mktemp("models") / "roberta"
    core, special = Tokenizer(models.BPE()), ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator([f"{' '.join([*COLOURS, *ANIMALS])} " * 20], trainer)
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer = RobertaTokenizer(tokenizer_object=core)
    tokenizer.save_pretrained(path)
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128,
        max_position_embeddings=34, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        RobertaForMaskedLM(config).save_pretrained(path)
    return path


def rows_of(kind: str, count: int = 200) -> list[dict[str, Any]]:
    """Six words a row; labels say which sort is in the majority, which words are there, a share, or what each is."""
    draw, rows = random.Random(0), []  # noqa: S311
    for _ in range(count):
        words = draw.choices([*COLOURS, *ANIMALS], k=6)
        colours = sum(word in COLOURS for word in words)
        row: dict[str, Any] = {"text": " ".join(words)}
        if kind == "single":
            row["label"] = "colour" if colours > 3 else "animal"
        elif kind == "multi":
            row["label"] = [word for word in ("red", "cat") if word in words]
        elif kind == "regression":
            row["label"] = colours / 6
        else:
            row = {"tokens": words, "labels": ["B-colour" if word in COLOURS else "O" for word in words]}
        rows.append(row)
    return rows


@pytest.fixture
def label(encoder: Path, tmp_path: Path) -> Any:
    """A trainer on the tiny encoder; any setting may be given."""

    def build(kind: str = "single", **settings: Any) -> Any:
        defaults: dict[str, Any] = {
            "backend": "trl", "model_name": str(encoder), "output_dir": str(tmp_path / "run"), "batch_size": 8,
            "gradient_accumulation_steps": 2, "learning_rate": 3e-3, "logging_steps": 1,
            "train_dataset": rows_of(kind)[:160], "eval_dataset": rows_of(kind)[160:],
        }  # fmt: skip
        if "max_steps" not in settings:
            defaults["num_epochs"] = 12
        trainer = create_sft_trainer(**{**defaults, **settings})
        trainer.listen()
        return trainer

    return build


def write_bart(path: Path) -> None:
    write_tiny_model("seq2seq", path)  # for its tokenizer
    (path / "model.safetensors").unlink()
    tokenizer = AutoTokenizer.from_pretrained(path)
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    torch.manual_seed(0)
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=64, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=128, dropout=0.0,
        decoder_ffn_dim=128, encoder_attention_heads=4, decoder_attention_heads=4, max_position_embeddings=128,
        pad_token_id=pad, eos_token_id=end, bos_token_id=None, decoder_start_token_id=pad, forced_eos_token_id=None,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(path)


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of a tiny model of a kind: seq2seq (T5), bart, encoder_decoder."""
    folder, made = tmp_path_factory.mktemp("models"), set[str]()

    def get(kind: str) -> Path:
        path = folder / kind
        if kind not in made:
            write_bart(path) if kind == "bart" else write_tiny_model(kind, path)
            made.add(kind)
        return path

    return get


@pytest.fixture
def translate(model_of: Any, tmp_path: Path) -> Any:
    """A trainer of a kind of model; any setting may be given."""

    def build(kind: str = "seq2seq", **settings: Any) -> Any:
        defaults: dict[str, Any] = {
            "backend": "trl", "model_name": str(model_of(kind)), "output_dir": str(tmp_path / "run"), "batch_size": 8,
            "gradient_accumulation_steps": 1, "learning_rate": 5e-3, "train_dataset": ROWS, "eval_dataset": ROWS,
            "logging_steps": 10,
        }  # fmt: skip
        if "max_steps" not in settings:
            defaults["num_epochs"] = 60
        trainer = create_sft_trainer(**{**defaults, **settings})
        trainer.listen()
        return trainer

    return build


@pytest.fixture(scope="session")
def scored(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of an encoder with a head for two labels, which its config names; or does not."""
    folder = tmp_path_factory.mktemp("models")

    def get(*names: str) -> Path:
        path = folder / ("-".join(names) or "unnamed")
        if not path.exists():
            copytree(encoder, path)
            named = {"id2label": dict(enumerate(names))} if names else {}
            BertForSequenceClassification.from_pretrained(encoder, **named).save_pretrained(path)
        return path

    return get
