"""A tiny model, a few rows, and one way to train them through AlignTune's public door."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from aligntune_trl import base, generate
from aligntune_trl.tiny import write_tiny_model

from aligntune import Trainer, create_sft_trainer
from aligntune_core.demo import rows

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # each of the parallel workers takes one core

Train = Callable[..., Trainer]


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
