"""Which open model a request is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import AutoConfig

from aligntune_core import ConfigError, OpenModel, OpenRequest
from aligntune_trl.opened import OpenedPolicy, OpenedScorer
from aligntune_trl.quiet import hush_handlers
from aligntune_trl.tasks.opened import OpenedAnswerer, OpenedTexts, OpenedWords

_KINDS: dict[str, Callable[[OpenRequest], OpenModel]] = {
    "causal_lm": OpenedPolicy,
    "seq2seq": OpenedAnswerer,
    "encoder_decoder": OpenedAnswerer,
}
_TASKS = {"text_classification": OpenedTexts, "token_classification": OpenedWords}


def open_saved(request: OpenRequest) -> OpenModel:
    """The model of a request: one that answers, that labels, or that scores.

    Raises:
        ConfigError: its tokenizer cannot be loaded, or nothing here asks such a model.
    """
    hush_handlers()
    if request.model_type == "classification":
        return _classification(request)
    if request.model_type not in _KINDS:
        problem, remedy = f"models of the type {request.model_type} are not opened", "use transformers' pipeline"
        raise ConfigError(problem, remedy, field="model_name", value=request.model)
    return _KINDS[request.model_type](request)


def _classification(request: OpenRequest) -> OpenModel:
    """One that labels or scores: as its run says, and without a run as its config does."""
    if request.algorithm == "reward":
        return OpenedScorer(request)
    if request.task in _TASKS:
        return _TASKS[request.task](request)
    trust = request.config.trust_remote_code
    try:
        config: Any = AutoConfig.from_pretrained(request.model, trust_remote_code=trust)
    except (OSError, ValueError):  # an adapter alone; one that labels has a config beside it
        return OpenedScorer(request)
    architecture = str((config.architectures or [""])[0])
    if architecture.endswith("ForTokenClassification"):
        return OpenedWords(request)
    if architecture.endswith("ForMaskedLM"):
        problem, remedy = "it guesses masked words, and neither answers nor labels", "train it first"
        raise ConfigError(problem, remedy, field="model_name", value=request.model)
    return OpenedScorer(request) if config.num_labels == 1 and config.problem_type is None else OpenedTexts(request)
