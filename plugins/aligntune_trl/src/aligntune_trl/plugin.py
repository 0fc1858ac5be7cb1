"""The hooks: what TRL trains through this plugin, whether it can here, and the door to the trainers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aligntune_core import AlgorithmSupport, Availability, BackendTrainer, Environment, Support, TrainRequest, hookimpl
from aligntune_trl.availability import judge

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFERENCE = 10

_FULL = Support("full")
_SFT_CELLS = {
    (task, "causal_lm"): _FULL
    for task in ("instruction_following", "supervised_fine_tuning", "text_generation", "chat_completion")
}
_SFT_SETTINGS = frozenset(
    [
        "model_name",
        "revision",
        "attn_implementation",
        "trust_remote_code",
        "chat_template",
        "precision",
        "max_seq_length",
        "packing",
        "assistant_only_loss",
        "seed",
        "num_epochs",
        "max_steps",
        "batch_size",
        "eval_batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
        "lr_scheduler",
        "warmup_steps",
        "weight_decay",
        "optimizer",
        "max_grad_norm",
        "gradient_checkpointing",
        "use_peft",
        "lora_r",
        "lora_alpha",
        "lora_dropout",
        "lora_target_modules",
        "load_in_4bit",
        "load_in_8bit",
        "resume",
        "logging_steps",
        "save_steps",
        "eval_steps",
        "report_to",
        "backend_options",
    ]
)


@hookimpl
def provides_algorithms() -> Iterable[AlgorithmSupport]:
    return [AlgorithmSupport(algorithm="sft", cells=_SFT_CELLS, preference=PREFERENCE, settings=_SFT_SETTINGS)]


@hookimpl
def is_available(environment: Environment) -> Availability:
    return judge(environment)


@hookimpl
def build_trainer(request: TrainRequest) -> BackendTrainer:
    from aligntune_trl.sft import build_sft

    return build_sft(request)


@hookimpl
def tiny_model(model_type: str, path: Path) -> bool:
    from aligntune_trl.tiny import write_tiny_model

    return write_tiny_model(model_type, path)
