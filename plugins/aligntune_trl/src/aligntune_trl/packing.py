"""Packing several rows into one sequence, only where they cannot see each other: proved on the model itself."""

from __future__ import annotations

from typing import Any

import torch
import trl

from aligntune_core import ConfigError

PROBED = 48
TOLERANCE = 1e-3
"""Largest difference of a logit, relative to the largest logit; rows that see each other differ by far more."""


def _logits(model: Any, ids: list[int], positions: list[int]) -> torch.Tensor:
    device = model.device
    tensor = torch.tensor([ids], device=device)
    with torch.no_grad():
        output = model(input_ids=tensor, position_ids=torch.tensor([positions], device=device), use_cache=False)
    logits: torch.Tensor = output.logits[0].float()
    return logits


def check_rows_stay_apart(model: Any, dataset: Any) -> None:
    """Compare the logits of a row alone with those of the same row behind another one.

    Raises:
        ConfigError: this model and attention let one row see the other.
    """
    first = dataset[0]["input_ids"][:PROBED]
    second = dataset[min(1, len(dataset) - 1)]["input_ids"][:PROBED]
    was_training = model.training
    model.eval()
    alone = _logits(model, second, list(range(len(second))))
    packed = _logits(model, first + second, [*range(len(first)), *range(len(second))])[len(first) :]
    model.train(was_training)
    difference = (alone - packed).abs().max() / alone.abs().max().clamp(min=1e-9)
    if float(difference) > TOLERANCE:
        kind = getattr(model.config, "_attn_implementation", "this")
        remedy = "leave packing out, or set attn_implementation: flash_attention_2"
        raise ConfigError(f"with {kind} attention packed rows see each other", remedy, field="packing", value=True)


def pack(dataset: Any, length: int) -> Any:
    """Best-fit-decreasing packing; no row is cut in two."""
    return trl.pack_dataset(dataset, seq_length=length, strategy="bfd")
