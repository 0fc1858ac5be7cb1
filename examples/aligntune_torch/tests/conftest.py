"""A tiny model, a few rows, and one way to train them through AlignTune's public door."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from aligntune_torch import model as model_module
from aligntune_torch.tiny import write_tiny_model

from aligntune import get_trainer

torch.set_num_threads(1)  # the model is too small for more

ROWS = [
    {"prompt": "What is LoRA?", "completion": " Small matrices beside frozen weights."},
    {"prompt": "Two?", "completion": " 2"},
    {"prompt": "Say a long thing.", "completion": " A long thing, and then one more long thing after it."},
    {"prompt": "End", "completion": "."},
    {"prompt": "What is a token, in simple words?", "completion": " A piece of text."},
    {"prompt": "Who?", "completion": " Nobody that we know of."},
]
"""Rows of quite different lengths, so that a mean over batches or over rows would not be the mean over tokens."""


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained model never ends an answer; a few tokens are enough here."""
    monkeypatch.setattr(model_module, "LONGEST_ANSWER", 24)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer causal model with its tokenizer."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    assert write_tiny_model("causal_lm", path)
    return path


@pytest.fixture
def make(tiny: Path, tmp_path: Path) -> Callable[..., Any]:
    """A trainer of the tiny model; all six rows are one step. Any setting may be given."""

    def build(algorithm: str = "sft", **settings: Any) -> Any:
        defaults: dict[str, Any] = {
            "model_name": str(tiny), "output_dir": str(tmp_path / "run"), "train_dataset": ROWS, "batch_size": 2,
            "gradient_accumulation_steps": 3, "learning_rate": 1e-3, "logging_steps": 1,
        }  # fmt: skip
        if "model" in settings:
            del defaults["model_name"]
        trainer = get_trainer(algorithm, "torch", **{**defaults, **settings})
        trainer.listen()
        return trainer

    return build


@pytest.fixture
def six_rows() -> list[dict[str, str]]:
    return ROWS


@pytest.fixture
def metrics() -> Callable[..., list[dict[str, Any]]]:
    """The rows of metrics of a run, but for what the clock says."""

    def read(trainer: Any, split: str = "train") -> list[dict[str, Any]]:
        lines = (trainer.run_dir / "metrics.jsonl").read_text("utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if row["split"] == split]
        return [{name: row[name] for name in row if name not in ("time", "tokens_per_second")} for row in rows]

    return read
