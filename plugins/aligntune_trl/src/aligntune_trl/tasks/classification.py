"""Text classification: one label, several, or a number for each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DataCollatorWithPadding

from aligntune_core import ConfigError, Labels, RunEvents, TrainRequest
from aligntune_trl.base import TrlTrainer
from aligntune_trl.generate import SAMPLED
from aligntune_trl.heads import PROBLEMS
from aligntune_trl.tasks import labelling, metrics
from aligntune_trl.tasks.texts import Texts

SEARCHED = 100
"""Rows that are looked at for a few with text, to show how they are labelled."""


class TextTask:
    """How a text's logits become a loss and numbers; see `labelling.Task`.

    Args:
        labels: what the outputs mean.
    """

    collator = DataCollatorWithPadding

    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of one label (texts,), binary of several (texts, labels), squared error of a value (texts,)."""
        if self._labels.problem == "multi":
            return functional.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none")
        if self._labels.problem == "regression":
            return functional.mse_loss(logits.float().squeeze(-1), targets.float(), reduction="none")
        return functional.cross_entropy(logits.float(), targets, reduction="none")

    def kept(self, logits: Tensor, targets: Tensor) -> Tensor:
        """All logits (texts, labels)."""
        return logits.float()

    def measure(self, kept: Any, targets: Any) -> dict[str, float]:
        """See `metrics.of_texts`."""
        each = self.loss(torch.from_numpy(kept), torch.from_numpy(targets))
        return {"exact_loss": each.double().mean().item()} | metrics.of_texts(self._labels, kept, targets)

    def said(self, logits: Tensor) -> Any:
        """A text's label, its labels, or its value."""
        if self._labels.problem == "regression":
            return float(logits[0])
        if self._labels.problem == "multi":
            return [name for name, logit in zip(self._labels.names, logits.tolist(), strict=True) if logit > 0]
        return self._labels.names[int(logits.argmax())]


def said_of(model: Any, tokenizer: Any, texts: Texts, task: TextTask, inputs: Sequence[Any], size: int) -> list[Any]:
    """What a model says of each text, in batches of `size`.

    Raises:
        ConfigError: an input is no text, or has no token.
    """
    for item in inputs:
        if not isinstance(item, str):
            raise ConfigError(f"is a {type(item).__name__}", "pass texts", field="inputs")
        if not tokenizer(item, verbose=False).input_ids:
            raise ConfigError("a text has no token to label", "pass texts with words", field="inputs", value=item)
    was_training, said = model.training, []
    model.eval()
    try:
        for at in range(0, len(inputs), size):
            ids = texts.ids(inputs[at : at + size])
            batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(model.device)
            with torch.no_grad():
                said += [task.said(logits) for logits in model(**batch).logits.float()]
    finally:
        model.train(was_training)
    return said


class Classifier(TrlTrainer):
    """A `BackendTrainer` whose model labels texts."""

    def __init__(self, native: Any, loaded: Any, wanted: Any, texts: Texts, labels: Labels) -> None:
        self._labels, self._texts, self._task = labels, texts, TextTask(labels)
        super().__init__(native, loaded, wanted, texts.preview)

    def facts(self) -> dict[str, Any]:
        names = list(self._labels.names)
        return {"problem_type": PROBLEMS[self._labels.problem], "labels": names, "max_length": self._texts.longest}

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        """The label of each text; the labels that hold, where there are several; the value, for regression.

        Raises:
            ConfigError: an input is no text, or has no token.
        """
        size = self.native.args.per_device_eval_batch_size
        return said_of(self._model, self._loaded.tokenizer, self._texts, self._task, inputs, size)

    def _sample(self, events: RunEvents) -> None:
        """Label a few texts, for the report."""
        rows = self._request.train_rows if self._request.eval_rows is None else self._request.eval_rows
        texts = [text for text in rows.select(range(min(SEARCHED, len(rows))))["text"] if text.strip()][:SAMPLED]
        for text, label in zip(texts, self.predict(texts), strict=True):
            events.sample(self.native.state.global_step, text, str(label))


def build_classifier(request: TrainRequest) -> TrlTrainer:
    """Load the model with a head for the labels, tokenise the texts, and construct transformers' Trainer.

    Raises:
        ConfigError, BackendUnavailableError: what only the library, the model or the tokenizer can tell.
    """
    labels = labelling.labels_of(request)
    loaded, headed, longest = labelling.load(request, "SEQ_CLS", labels)
    texts = Texts(loaded.tokenizer, labels, longest)
    rows = labelling.tokenised(request, texts)
    native, wanted = labelling.construct(loaded, headed, TextTask(labels), rows)
    return Classifier(native, loaded, wanted, texts, labels)
