"""Models with one score for an answer: how they are loaded, what they read, and as a reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForSequenceClassification, set_seed

from aligntune_core import ConfigError
from aligntune_core.config import RolloutConfig, TrainingConfig
from aligntune_trl import loading
from aligntune_trl.heads import onto_head
from aligntune_trl.tokenise import Tokeniser
from aligntune_trl.tokenizer import own_tokenizer, without_bos

HEAD = "score"
"""The layer that gives the score; a causal model has none, and gets a new one."""


def with_head(name: str, tokenizer: Any, options: Mapping[str, Any], *, new: bool = True) -> Any:
    """A full model with a head for one score: its own or, where that is allowed, a new one.

    Raises:
        ConfigError: another weight is missing, or it gives several scores.
    """
    model, found = AutoModelForSequenceClassification.from_pretrained(
        name, num_labels=1, output_loading_info=True, **options
    )
    missing = sorted(found["missing_keys"])
    if missing and not hasattr(model, HEAD):
        problem, remedy = "no head for a score can be put onto this kind of model", "give a causal model"
        raise ConfigError(problem, remedy, field="model_name", value=name)
    if not new and any(key.startswith(f"{HEAD}.") for key in missing):
        problem = f"it gives no score: the weights of its layer '{HEAD}' are in no file"
        raise ConfigError(problem, "give a model that algorithm=reward trained", field="model_name", value=name)
    if missing := [key for key in missing if not key.startswith(f"{HEAD}.")]:
        raise loading.lacks(name, missing)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return model


def load_scorer(config: TrainingConfig, tokenizer: Any, precision: str, *, new: bool = True) -> Any:
    """The model that is to score, from a causal model, a reward model, or an adapter of either.

    An adapter of a causal model is trained on, with a new head beside it: what was learnt is kept.

    Args:
        new: put a new head onto a model that has none; else such a model is refused.
    """
    set_seed(config.seed)
    name, options = str(config.model_name), loading.load_options(config, precision)
    with loading.telling(config):
        if not loading.is_adapter(name):
            return with_head(name, tokenizer, options, new=new)
        adapter = PeftConfig.from_pretrained(name)
        model = with_head(str(adapter.base_model_name_or_path), tokenizer, options)
        if adapter.task_type == "SEQ_CLS":
            return PeftModel.from_pretrained(model, name, is_trainable=True)
        return onto_head(model, adapter, name, "SEQ_CLS", [HEAD])


# what it reads


def as_text(tokeniser: Tokeniser, item: Any) -> str:
    """A question with its answer as the model was trained on it: in the chat template, or ended by end-of-sequence."""
    if isinstance(item, str):
        return without_bos(tokeniser.tokenizer, tokeniser.ended(item))
    if not isinstance(item, list) or not all(isinstance(m, Mapping) for m in item):
        remedy = "pass a question with its answer, as text or as a list of {role, content}"
        raise ConfigError(f"is a {type(item).__name__}", remedy, field="inputs")
    return tokeniser.writer.finished(item)


def scores(model: Any, tokenizer: Any, items: Sequence[Any], batch_size: int) -> list[float]:
    """The score of each question with its answer, all texts or all conversations, in float32."""
    tokeniser = Tokeniser(tokenizer)
    texts = [as_text(tokeniser, item) for item in items]
    special = bool(items) and isinstance(items[0], str)
    was_training = model.training
    model.eval()
    found: list[float] = []
    try:
        for start in range(0, len(texts), batch_size):
            batch = tokenizer(
                list(texts[start : start + batch_size]),
                return_tensors="pt",
                padding=True,
                padding_side="right",
                add_special_tokens=special,
            ).to(model.device)
            batch.pop("token_type_ids", None)
            with torch.no_grad():
                found += model(**batch).logits[:, 0].float().tolist()
    finally:
        model.train(was_training)
    return found


# as a reward


class ModelReward:
    """A reward model as a reward function of a batch: prompts, completions → scores.

    Attributes:
        name: what it is called in the metrics.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, batch_size: int) -> None:
        self.name = self.__name__ = name
        self._model, self._tokenizer, self._batch_size = model, tokenizer, batch_size

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any]) -> list[float]:
        joined = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
        return scores(self._model, self._tokenizer, joined, self._batch_size)


def reward_model_of(config: RolloutConfig, precision: str, device: torch.device) -> ModelReward | None:
    """The reward model that the settings name, ready to score; frozen.

    Raises:
        ConfigError: it cannot be loaded, or is no reward model.
    """
    if not config.reward_model_name:
        return None
    name = config.reward_model_name
    try:
        tokenizer = own_tokenizer(name, None, trust_remote_code=config.trust_remote_code)
        model = _frozen(name, tokenizer, config, precision)
    except ConfigError as error:
        raise ConfigError(error.problem, error.remedy, field="reward_model_name", value=name) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(*loading.unloadable(error), field="reward_model_name", value=name) from error
    folder = Path(name).expanduser().absolute()
    called = folder.parent.name if folder.name == "model" else folder.name  # a run is called by its own folder
    return ModelReward(model.to(device), tokenizer, called, config.batch_size)


def _frozen(name: str, tokenizer: Any, config: RolloutConfig, precision: str) -> Any:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    options = {"dtype": dtype, "trust_remote_code": config.trust_remote_code, "use_safetensors": True}
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if not loading.is_adapter(name):
        return with_head(name, tokenizer, options, new=False).eval().requires_grad_(False)
    model = with_head(str(PeftConfig.from_pretrained(name).base_model_name_or_path), tokenizer, options)
    adapted = PeftModel.from_pretrained(model, name)
    loading.check_adapter_whole(adapted, name)
    return adapted.merge_and_unload().eval().requires_grad_(False)
