"""Saved models that are used: they answer as their run's trainer does, or score, and are merged."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from aligntune_core import ConfigError, MergeReport, OpenRequest, Sampling
from aligntune_trl import loading, scoring
from aligntune_trl.generate import answer, conversation, end_ids, refuse_drawing, verbatim
from aligntune_trl.tokenise import Tokeniser
from aligntune_trl.tokenizer import load_tokenizer, own_tokenizer

log = logging.getLogger("aligntune")


class Opened:
    """What every open model of this backend shares; the weights are loaded when they are first needed.

    Attributes:
        tokenizer: the saved one, with the template of the run.
        chat: whether questions are conversations: as the run's rows; without a run, where there is a template.
    """

    def __init__(self, request: OpenRequest) -> None:
        loading.use_one_gpu(request.environment)
        self.request = request
        # The template is the saved tokenizer's: a file that the settings name may have changed since.
        attention = request.config.attn_implementation if torch.cuda.is_available() else None  # a GPU's, most often
        named = {"model_name": request.model, "chat_template": None, "attn_implementation": attention}
        self.config = request.config.decided(**named)
        self.precision = self._precision()
        own = own_tokenizer(request.model, self.config.revision, trust_remote_code=self.config.trust_remote_code)
        self.chat = request.row_format.endswith("messages") if request.row_format else bool(own.chat_template)
        if self.config.system_prompt and not self.chat:
            problem, remedy = "its tokenizer has no chat template, so it is asked as it stands", "leave it out"
            raise ConfigError(problem, remedy, field="system_prompt", value=self.config.system_prompt)
        self.tokenizer = load_tokenizer(self.config, request.model, self._rows())

    def _rows(self) -> str:
        """The format of rows that it answers to, as far as the tokenizer is to know it."""
        return "messages" if self.chat else "text"

    def _precision(self) -> str:
        """The run's, where this device can."""
        if self.config.precision == "fp16" and not torch.cuda.is_available():
            log.warning("the run computed in fp16, which needs a GPU; here it is fp32")
            return "fp32"
        return loading.precision_of(self.config)

    @cached_property
    def model(self) -> Any:
        """The model on its device, without dropout."""
        model = self._load()
        loading.keep_quantised_weights_as_loaded(model)
        if torch.cuda.is_available() and not getattr(model, "hf_device_map", None):
            model.to("cuda")
        return model.eval()

    def _load(self) -> Any:
        raise NotImplementedError

    def full(self, name: str, options: Mapping[str, Any]) -> Any:
        """A full model of this kind from its files: the saved one, or the base of the saved adapter."""
        raise NotImplementedError

    def complete(self, model: Any) -> None:
        """Give a loaded model what was decided for the run and is no weight."""

    @contextlib.contextmanager
    def computing(self, *, mixed: bool) -> Iterator[None]:
        """Compute as the trainer does: in mixed precision where its library wraps the call."""
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        if dtype is None or not mixed:
            yield
            return
        with torch.autocast(self.model.device.type, dtype):
            yield

    def merge(self, path: Path, dtype: str | None) -> MergeReport:
        """The model as a full one, checked against itself.

        Raises:
            ConfigError: the merged model computes something else, or its base cannot be dequantised.
        """
        from aligntune_trl.merging import merge

        return merge(self, path, dtype)

    def close(self) -> None:
        """Let go of the model."""
        vars(self).pop("model", None)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class OpenedPolicy(Opened):
    """A model that answers."""

    def _load(self) -> Any:
        model = loading.load_model(self.config, self.precision)
        self.complete(model)
        return model

    def full(self, name: str, options: Mapping[str, Any]) -> Any:
        return loading.whole(name, options)

    def complete(self, model: Any) -> None:
        """Every token that ends an answer; an adapter is saved without them."""
        if ends := end_ids(model, self.tokenizer, chat=self.chat):
            model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]

    def text_of(self, item: Any) -> str:
        """What the model is given for a question."""
        if not self.chat:
            return verbatim(item)
        return Tokeniser(self.tokenizer, offsets=False).render(conversation(item, self.config.system_prompt), ask=True)

    @property
    def longest(self) -> int | None:
        """Tokens at which a question is cut; None: it is not."""
        return None

    @property
    def special_tokens(self) -> bool:
        """Whether a question gets the tokenizer's own tokens."""
        return not self.chat

    @property
    def mixed(self) -> bool:
        """A run with an adapter answers through the model under it, which its library does not wrap."""
        return not isinstance(self.model, PeftModel)

    def predict(self, inputs: Sequence[Any], sampling: Sampling) -> list[Any]:
        """An answer for each question."""
        texts = [self.text_of(item) for item in inputs]
        with self.computing(mixed=self.mixed):
            form: dict[str, Any] = {"special_tokens": self.special_tokens, "longest": self.longest}
            return answer(self.model, self.tokenizer, texts, sampling=sampling, **form)

    def stream(self, messages: Sequence[Mapping[str, str]], sampling: Sampling) -> Iterator[str]:
        """The answer to a conversation in pieces.

        Raises:
            ConfigError: the model was trained on plain text, and has no conversations.
        """
        from aligntune_trl.streaming import stream

        if not self.chat:
            problem = "it has no conversations: its rows were plain text, or its tokenizer has no chat template"
            raise ConfigError(problem, "use 'aligntune generate'", field="model_name", value=self.request.model)
        yield from stream(self, self.text_of(list(messages)), sampling)


class OpenedScorer(Opened):
    """A reward model."""

    def _load(self) -> Any:
        return scoring.load_scorer(self.config, self.tokenizer, self.precision, new=False)

    def full(self, name: str, options: Mapping[str, Any]) -> Any:
        return scoring.with_head(name, self.tokenizer, options, new=name != self.request.model)

    def predict(self, inputs: Sequence[Any], sampling: Sampling) -> list[Any]:
        """A score for each question with its answer.

        Raises:
            ConfigError: it is asked to draw.
        """
        refuse_drawing(sampling, "a reward model gives scores, and draws nothing")
        with self.computing(mixed=True):
            return scoring.scores(
                self.model, self.tokenizer, inputs, self.config.eval_batch_size or self.config.batch_size
            )
