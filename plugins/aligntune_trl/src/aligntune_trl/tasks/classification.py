"""Text classification: one label, several, or a number for each text."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

log = logging.getLogger("aligntune")


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


@dataclass(frozen=True, slots=True)
class LabelledTokens:
    """A text as the model sees it, and what it is to say of it: no token is trained."""

    input_ids: list[int]
    label: Any

    @property
    def labels(self) -> list[int]:
        return [labelling.NONE] * len(self.input_ids)


class Texts:
    """Tokenises labelled texts.

    Args:
        tokenizer: the model's.
        labels: what the rows' numbers mean.
        longest: tokens of a text at most.
    """

    def __init__(self, tokenizer: Any, labels: Labels, longest: int) -> None:
        self._tokenizer, self._labels, self._longest = tokenizer, labels, longest

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each, cut."""
        options = {"truncation": True, "max_length": self._longest}
        found: list[list[int]] = self._tokenizer(list(texts), **options)["input_ids"]
        return found

    def _target(self, label: Any) -> Any:
        """What the loss compares with: a label's number, a 1 for each that holds, or a value."""
        if self._labels.problem != "multi":
            return label
        return [float(number in label) for number in range(len(self._labels.names))]

    def __call__(self, rows: Any, field: str) -> Any:
        """A `Dataset` of `input_ids` and `labels`; texts that are cut are counted."""

        def convert(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
            whole = self._tokenizer(batch["text"], verbose=False)["input_ids"]
            return {
                "input_ids": self.ids(batch["text"]),
                "labels": [self._target(label) for label in batch["label"]],
                "cut": [len(ids) > self._longest for ids in whole],
            }

        done = rows.map(convert, batched=True, load_from_cache_file=False, remove_columns=rows.column_names)
        if cut := sum(done["cut"]):
            log.info("%s: %d of %d rows are cut at %d tokens", field, cut, len(done), self._longest)
        return done.select_columns(["input_ids", "labels"])

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[LabelledTokens]:
        """The rows as the model sees them."""
        ids = self.ids([row["text"] for row in rows])
        return [LabelledTokens(each, row["label"]) for each, row in zip(ids, rows, strict=True)]


class Classifier(TrlTrainer):
    """A `BackendTrainer` whose model labels texts."""

    def __init__(self, native: Any, loaded: Any, wanted: Any, texts: Texts, labels: Labels) -> None:
        self._labels, self._texts, self._task = labels, texts, TextTask(labels)
        super().__init__(native, loaded, wanted, texts.preview)

    def facts(self) -> dict[str, Any]:
        return {"problem_type": PROBLEMS[self._labels.problem], "labels": list(self._labels.names)}

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        """The label of each text; the labels that hold, where there are several; the value, for regression.

        Raises:
            ConfigError: an input is no text.
        """
        for item in inputs:
            if not isinstance(item, str):
                raise ConfigError(f"is a {type(item).__name__}", "pass texts", field="inputs")
        size = self.native.args.per_device_eval_batch_size
        return [said for at in range(0, len(inputs), size) for said in self._batch(inputs[at : at + size])]

    def _batch(self, texts: Sequence[str]) -> list[Any]:
        model, was_training = self._model, self._model.training
        batch = self._loaded.tokenizer.pad({"input_ids": self._texts.ids(texts)}, return_tensors="pt").to(model.device)
        model.eval()
        try:
            with torch.no_grad():
                return [self._task.said(logits) for logits in model(**batch).logits.float()]
        finally:
            model.train(was_training)

    def _sample(self, events: RunEvents) -> None:
        """Label a few texts, for the report."""
        rows = self._request.train_rows if self._request.eval_rows is None else self._request.eval_rows
        texts = [row["text"] for row in rows.select(range(min(SAMPLED, len(rows))))]
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
