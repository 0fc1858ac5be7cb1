"""The hooks: what this backend trains, whether it can here, and the doors to the code that does it.

Core imports this module for every command, so nothing heavy is imported here or in what this module imports at its
top: torch and transformers are first imported inside `build_trainer`, `build_preview` and `tiny_model`.
"""

from __future__ import annotations

import re
from pathlib import Path

from aligntune_core import (
    AlgorithmSupport,
    Availability,
    BackendTrainer,
    Environment,
    Preview,
    Support,
    TrainRequest,
    hookimpl,
)
from aligntune_torch.neftune import neftune_support

NEEDED = {"torch": (2, 10), "transformers": (5, 3), "safetensors": (0, 5)}
"""The oldest versions that it can work with, as in pyproject.toml."""

CELLS = {
    (task, "causal_lm"): Support("full")
    for task in ("instruction_following", "supervised_fine_tuning", "text_generation", "chat_completion")
}
"""(task, model type) → how well. A cell that is absent is not supported, and core says so to the user."""

SETTINGS = frozenset(
    {
        "model_name", "revision", "trust_remote_code", "precision", "max_seq_length", "seed", "num_epochs", "max_steps",
        "batch_size", "eval_batch_size", "gradient_accumulation_steps", "learning_rate", "warmup_steps", "weight_decay",
        "max_grad_norm", "resume", "logging_steps", "save_steps", "eval_steps",
    }
)  # fmt: skip
"""The settings that the trainer acts on. Any other that the user gives is refused by core, never silently ignored."""


@hookimpl
def provides_algorithms() -> list[AlgorithmSupport]:
    """What is trained. Without a preference, `auto` takes this backend only where no other one trains the same."""
    sft = AlgorithmSupport(algorithm="sft", cells=CELLS, settings=SETTINGS)
    return [sft, neftune_support(sft)]


@hookimpl
def is_available(environment: Environment) -> Availability:
    """Judge by `environment` alone, and never raise: this is asked on machines of every kind."""
    for name, floor in NEEDED.items():
        version = environment.packages.get(name)
        wanted = ".".join(map(str, floor))
        if version is None:
            return Availability(False, f"{name} is not installed", f"pip install '{name}>={wanted}'")
        if tuple(map(int, re.findall(r"\d{1,9}", version)[:2])) < floor:
            return Availability(False, f"{name} {version} is older than {wanted}", f"pip install -U '{name}>={wanted}'")
    if environment.world_size > 1:
        remedy = "start it without a launcher of several processes, or choose another backend"
        return Availability(False, "it trains in one process", remedy)
    return Availability(True)


@hookimpl
def build_trainer(request: TrainRequest) -> BackendTrainer:
    """Everything is checked; load the model and give a trainer."""
    if request.algorithm == "neftune":
        from aligntune_torch.neftune_trainer import NeftuneTrainer

        return NeftuneTrainer(request)
    from aligntune_torch.trainer import SftTrainer

    return SftTrainer(request)


@hookimpl
def build_preview(request: TrainRequest) -> Preview:
    """Rows as the model sees them, for `aligntune preview`; without this hook that command is refused."""
    from aligntune_torch.preview import preview_of

    return preview_of(request)


@hookimpl
def tiny_model(model_type: str, path: Path) -> bool:
    """What `aligntune demo` and the conformance suite train; without this hook they have no model."""
    from aligntune_torch.tiny import write_tiny_model

    return write_tiny_model(model_type, path)
