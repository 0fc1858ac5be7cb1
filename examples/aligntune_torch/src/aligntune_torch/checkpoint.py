"""What a run needs to go on as if it had never stopped, beside the weights: without pickle, so it can hold no code.

The learning rate and the order of the rows are functions of the step, so neither has a state to be kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from aligntune_core import storage_error

STATE, PROGRESS = "state.safetensors", "progress.json"


def save_state(folder: Path, optimizer: torch.optim.Optimizer, progress: Mapping[str, Any]) -> None:
    """Write the optimizer's tensors and the random states as tensors, and `progress` as JSON.

    Raises:
        StorageError: the disk is full.
    """
    tensors = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor.contiguous() for name, tensor in state.items()}
    try:
        save_file(tensors, folder / STATE)
    except SafetensorError as error:  # its word for a full disk is no OSError, by which core would know it
        raise storage_error(folder, error) from error
    (folder / PROGRESS).write_text(json.dumps(progress), "utf-8")


def load_state(folder: Path, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Bring optimizer and random states back as they were; returns the progress. Core has checked the files' hashes."""
    tensors = load_file(folder / STATE)
    torch.set_rng_state(tensors.pop("random.cpu"))
    random = tensors.pop("random.cuda", None)
    if random is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(random)
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        _, index, name = key.split(".")
        states.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return dict(json.loads((folder / PROGRESS).read_text("utf-8")))
