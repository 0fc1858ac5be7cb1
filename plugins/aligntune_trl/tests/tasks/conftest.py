"""A tiny encoder that was trained on masked words, and rows whose labels follow from their words."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from aligntune_trl.tiny import write_tiny_model
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

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
