"""What a run leaves behind, and whether weights are the same to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from aligntune_core.runs.metrics import read

Weights = Mapping[str, torch.Tensor]


def losses(run_dir: Path) -> list[float]:
    """The training loss of each row of metrics."""
    return [row["loss"] for row in read(run_dir / "metrics.jsonl") if row["split"] == "train"]


def final_weights(run_dir: Path) -> Weights:
    """Those of the saved model, or of its adapter."""
    return load_file(next((run_dir / "model").glob("*.safetensors")))


def same(left: Weights, right: Weights) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
