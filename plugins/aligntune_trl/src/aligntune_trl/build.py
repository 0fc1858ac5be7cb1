"""Which trainer trains an algorithm, and of SFT which task."""

from __future__ import annotations

from aligntune_core import BackendTrainer, TrainRequest
from aligntune_trl.dpo import build_dpo
from aligntune_trl.policy import build_policy
from aligntune_trl.ppo.build import build_ppo
from aligntune_trl.reward_model import build_reward_model
from aligntune_trl.sft import build_sft
from aligntune_trl.tasks.classification import build_classifier
from aligntune_trl.tasks.seq2seq import build_seq2seq
from aligntune_trl.tasks.tagging import build_tagger

_BUILDERS = {"dpo": build_dpo, "reward": build_reward_model, "ppo": build_ppo}
_TASKS = {"text_classification": build_classifier, "token_classification": build_tagger}


def build(request: TrainRequest) -> BackendTrainer:
    """A trainer for the request's algorithm; those without a builder of their own are of the GRPO family."""
    if request.algorithm == "sft" and request.model_type in ("seq2seq", "encoder_decoder"):
        return build_seq2seq(request)
    if request.algorithm == "sft":
        return _TASKS.get(request.task, build_sft)(request)
    return _BUILDERS.get(request.algorithm, build_policy)(request)
