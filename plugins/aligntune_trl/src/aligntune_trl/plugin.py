"""The hooks: what TRL trains through this plugin, whether it can here, and the door to the trainers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aligntune_core import (
    AlgorithmSupport,
    Availability,
    BackendTrainer,
    Environment,
    Isolation,
    OpenModel,
    OpenRequest,
    Preview,
    Support,
    TrainRequest,
    hookimpl,
)
from aligntune_trl.availability import judge
from aligntune_trl.quiet import hush

PREFERENCE = 10

_FULL = Support("full")
_ANSWERS = ("instruction_following", "supervised_fine_tuning", "text_generation", "chat_completion")
_ANSWERED = ("instruction_following", "supervised_fine_tuning", "chat_completion")
_ASKED = ("instruction_following", "text_generation", "chat_completion")


def _cells(tasks: Iterable[str], *model_types: str) -> dict[tuple[str, str], Support]:
    return {(task, model_type): _FULL for task in tasks for model_type in model_types}


_SHARED = frozenset(
    {
        *("model_name", "revision", "attn_implementation", "trust_remote_code", "chat_template", "precision"),
        *("seed", "num_epochs", "max_steps", "batch_size", "eval_batch_size", "gradient_accumulation_steps"),
        *("learning_rate", "lr_scheduler", "warmup_steps", "weight_decay", "optimizer", "max_grad_norm"),
        *("gradient_checkpointing", "use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"),
        *("load_in_4bit", "load_in_8bit", "resume", "logging_steps", "save_steps", "eval_steps", "report_to"),
        "backend_options",
    }
)
_ROLLOUT = _SHARED | {
    *("reward_functions", "reward_weights", "reward_model_name", "reward_timeout", "overlong_cache"),
    *("num_generations", "num_iterations", "steps_per_generation", "max_completion_length", "temperature", "top_p"),
    *("epsilon", "epsilon_high"),
}
_GROUP = _ROLLOUT | {"beta", "scale_rewards", "mask_truncated_completions", "dynamic_sampling_attempts"}
_CRITIC = _ROLLOUT | {
    *("gamma", "lam", "kl_coef", "vf_coef", "cliprange_value", "critic", "critic_learning_rate", "whiten"),
    "missing_eos_penalty",
}
_CLAIMS = {
    "sft": (
        _cells(_ANSWERS, "causal_lm")
        | _cells(_ANSWERED, "seq2seq", "encoder_decoder")
        | _cells(["text_classification"], "causal_lm", "classification")
        | _cells(["token_classification"], "classification"),
        _SHARED | {"max_seq_length", "packing", "streaming", "assistant_only_loss"},
    ),
    "dpo": (_cells(_ASKED, "causal_lm"), _SHARED | {"max_seq_length", "beta", "loss_type"}),
    "reward": (_cells(_ASKED, "causal_lm", "classification"), _SHARED | {"max_seq_length"}),
    "ppo": (_cells(_ASKED, "causal_lm"), _CRITIC),
    **{name: (_cells(_ASKED, "causal_lm"), _GROUP) for name in ("grpo", "gspo", "dapo", "dr_grpo")},
}
"""Algorithm → its cells and the settings that it honours."""


@hookimpl
def provides_algorithms() -> Iterable[AlgorithmSupport]:
    return [
        AlgorithmSupport(algorithm=name, cells=cells, preference=PREFERENCE, settings=settings)
        for name, (cells, settings) in _CLAIMS.items()
    ]


@hookimpl
def is_available(environment: Environment) -> Availability:
    return judge(environment)


@hookimpl
def isolation() -> Isolation:
    libraries = ("aligntune_trl.preloaded",)
    return Isolation(preload=libraries, proof=libraries)


@hookimpl
def build_trainer(request: TrainRequest) -> BackendTrainer:
    hush()
    from aligntune_trl.build import build

    return build(request)


@hookimpl
def build_preview(request: TrainRequest) -> Preview:
    hush()
    from aligntune_trl.preview import preview_of

    return preview_of(request)


@hookimpl
def tiny_model(model_type: str, path: Path) -> bool:
    from aligntune_trl.tiny import write_tiny_model

    return write_tiny_model(model_type, path)


@hookimpl
def open_model(request: OpenRequest) -> OpenModel:
    hush()
    from aligntune_trl.opening import open_saved

    return open_saved(request)
