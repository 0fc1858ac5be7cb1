"""Saved models of SFT's other tasks that are used: they answer and label as their run's trainer does."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from aligntune_core import ConfigError, Labels, OpenRequest, Sampling
from aligntune_core.config import SftConfig
from aligntune_trl import heads, loading
from aligntune_trl.generate import refuse_drawing
from aligntune_trl.opened import Opened, OpenedPolicy
from aligntune_trl.tasks import classification, tagging
from aligntune_trl.tasks.exchanges import asks_with_special_tokens
from aligntune_trl.tasks.seq2seq import set_start
from aligntune_trl.tasks.texts import Texts
from aligntune_trl.tasks.words import Words
from aligntune_trl.tokenizer import most_read


class OpenedAnswerer(OpenedPolicy):
    """A model whose encoder reads a question, and whose decoder answers."""

    def _load(self) -> Any:
        model = loading.load_model(self.config, self.precision, AutoModelForSeq2SeqLM)
        self.complete(model)
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        if dtype is not None and not isinstance(model, PeftModel):
            model.forward = _mixed(model.forward, model.device.type, dtype)
        return model

    def full(self, name: str, options: Mapping[str, Any]) -> Any:
        return loading.whole(name, dict(options), AutoModelForSeq2SeqLM)

    def complete(self, model: Any) -> None:
        """With what an answer begins, and every token that ends it."""
        super().complete(model)
        set_start(model, self.tokenizer)

    @property
    def longest(self) -> int | None:
        """As in training."""
        return _longest(self.config, self.model.config, self.tokenizer)

    @property
    def special_tokens(self) -> bool:
        return asks_with_special_tokens(self.tokenizer, chat=self.chat)

    @property
    def mixed(self) -> bool:
        """In a trainer only the model's forward pass is wrapped: its encoder is asked by itself, and is not."""
        return False


def _mixed(forward: Any, device: str, dtype: torch.dtype) -> Any:
    @functools.wraps(forward)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, dtype):
            return forward(*args, **kwargs)

    return wrapped


class _Labelling(Opened):
    """A model with a head for labels, which its config names."""

    kind: heads.Kind

    def __init__(self, request: OpenRequest) -> None:
        super().__init__(request)
        config = _config_of(request)
        self.labels = self._labels(config)
        self.longest = _longest(self.config, config, self.tokenizer)

    def _rows(self) -> str:
        return "labelled"

    def _labels(self, config: Any) -> Labels:
        """What the outputs mean."""
        raise NotImplementedError

    def _load(self) -> Any:
        return heads.load_headed(self.kind, self.config, self.precision, self.tokenizer, self.labels, new=False).model

    def full(self, name: str, options: Mapping[str, Any]) -> Any:
        new = loading.is_adapter(self.request.model)  # its head is in the adapter's file, which comes on top
        told = self.request.model
        return heads.with_labels(self.kind, name, told, self.labels, self.tokenizer, options, new=new).model

    def predict(self, inputs: Sequence[Any], sampling: Sampling) -> list[Any]:
        """What the trainer of its run says of each input.

        Raises:
            ConfigError: it is asked to draw, or an input is of the wrong kind.
        """
        refuse_drawing(sampling, "a model that labels draws nothing")
        size = self.config.eval_batch_size or self.config.batch_size
        with self.computing(mixed=True):
            return self._said(inputs, size)

    def _said(self, inputs: Sequence[Any], size: int) -> list[Any]:
        raise NotImplementedError


class OpenedTexts(_Labelling):
    """A model that labels texts."""

    kind = "SEQ_CLS"

    def _labels(self, config: Any) -> Labels:
        problems = {theirs: ours for ours, theirs in heads.PROBLEMS.items()}
        problem: Any = problems.get(config.problem_type, "single")
        return Labels(problem, () if problem == "regression" else _names(config))

    def _said(self, inputs: Sequence[Any], size: int) -> list[Any]:
        texts = Texts(self.tokenizer, self.labels, self.longest)
        task = classification.TextTask(self.labels)
        return classification.said_of(self.model, self.tokenizer, texts, task, inputs, size)


class OpenedWords(_Labelling):
    """A model that labels words."""

    kind = "TOKEN_CLS"

    def _labels(self, config: Any) -> Labels:
        return Labels("tokens", _names(config))

    def _said(self, inputs: Sequence[Any], size: int) -> list[Any]:
        words = Words(self.tokenizer, self.longest)
        return tagging.said_of(self.model, self.tokenizer, words, self.labels, inputs, size)


def _longest(settings: Any, config: Any, tokenizer: Any) -> int:
    """Tokens of an input at most: those of the run, or what the model can read."""
    longest: int = getattr(settings, "max_seq_length", None) or SftConfig.model_fields["max_seq_length"].default
    return min(longest, most_read(config, tokenizer) or longest)


def _config_of(request: OpenRequest) -> Any:
    """The config that names the labels: the model's, or the one that lies beside an adapter.

    Raises:
        ConfigError: there is none.
    """
    try:
        return AutoConfig.from_pretrained(request.model, trust_remote_code=request.config.trust_remote_code)
    except (OSError, ValueError) as error:
        problem, remedy = "it has no config.json that names its labels", "give the folder of its run"
        raise ConfigError(problem, remedy, field="model_name", value=request.model) from error


def _names(config: Any) -> tuple[str, ...]:
    return tuple(str(config.id2label[number]) for number in sorted(config.id2label))
