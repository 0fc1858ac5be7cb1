"""Token classification: a label for each word, learnt at the first piece of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DataCollatorForTokenClassification

from aligntune_core import Labels, RunEvents, TrainRequest
from aligntune_trl.base import TrlTrainer
from aligntune_trl.generate import SAMPLED
from aligntune_trl.tasks import labelling, metrics
from aligntune_trl.tasks.labelling import NONE
from aligntune_trl.tasks.words import HeldBack, Words


class WordTask:
    """How the logits of tokens become a loss and numbers; see `labelling.Task`.

    Args:
        labels: what the outputs mean.
        held_back: what is to be said of the words that are evaluated; None: there are none.
    """

    collator = DataCollatorForTokenClassification

    def __init__(self, labels: Labels, held_back: HeldBack | None = None) -> None:
        self._labels, self._held_back = labels, held_back

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy at each token (rows, tokens); 0 where there is no label."""
        flat = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
        return flat.view_as(targets)

    def kept(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The likeliest label of each token, and the loss there; (rows, tokens, 2)."""
        return torch.stack([logits.argmax(-1).float(), self.loss(logits, targets)], dim=-1)

    def measure(self, kept: Any, targets: Any) -> dict[str, float]:
        """See `metrics.of_words`; the loss is over the words that are read."""
        there = targets != NONE
        truth = [row[mask].tolist() for row, mask in zip(targets, there, strict=True)]
        guessed = [row[mask].astype(int).tolist() for row, mask in zip(kept[..., 0], there, strict=True)]
        if self._held_back is not None:
            guessed = self._held_back.filled(guessed)
            truth = [*self._held_back.labels, *self._held_back.beyond]
        loss = float(kept[..., 1][there].mean()) if there.any() else 0.0
        return {"exact_loss": loss} | metrics.of_words(self._labels, guessed, truth)


def said_of(
    model: Any, tokenizer: Any, words: Words, labels: Labels, inputs: Sequence[Any], size: int
) -> list[list[str]]:
    """What a model says of each word, in batches of `size`; see `Tagger.predict`."""
    rows = [item.split() if isinstance(item, str) else list(item) for item in inputs]
    said = [[""] * len(row) for row in rows]
    there = [at for at, row in enumerate(rows) if any(map(str.strip, row)) and words.whole([row])[0]]
    was_training = model.training
    model.eval()
    try:
        for begin in range(0, len(there), size):
            part = there[begin : begin + size]
            for at, tags in zip(part, _batch(model, tokenizer, words, labels, [rows[at] for at in part]), strict=True):
                said[at] = tags
        return said
    finally:
        model.train(was_training)


def _batch(model: Any, tokenizer: Any, words: Words, labels: Labels, rows: Sequence[Sequence[str]]) -> list[list[str]]:
    encoded = words.encode(rows)
    batch = tokenizer.pad({"input_ids": encoded["input_ids"]}, return_tensors="pt").to(model.device)
    with torch.no_grad():
        best = model(**batch).logits.argmax(-1).tolist()
    width, left = batch["input_ids"].shape[1], tokenizer.padding_side == "left"
    said = []
    for at, row in enumerate(rows):
        own = best[at][width - len(encoded["input_ids"][at]) if left else 0 :]
        firsts = words.firsts(encoded, at)
        said.append([labels.names[own[firsts[word]]] if word in firsts else "" for word in range(len(row))])
    return said


class Tagger(TrlTrainer):
    """A `BackendTrainer` whose model labels words."""

    def __init__(self, native: Any, loaded: Any, wanted: Any, words: Words, labels: Labels) -> None:
        self._labels, self._words = labels, words
        super().__init__(native, loaded, wanted, words.preview)

    def facts(self) -> dict[str, Any]:
        return {"labels": list(self._labels.names), "max_length": self._words.longest}

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        """A list for each input, a label for each of its words; an input is a list of words, or a text of such.

        A word that is beyond what the model reads has the label of none: an empty text.
        """
        size = self.native.args.per_device_eval_batch_size
        return said_of(self._model, self._loaded.tokenizer, self._words, self._labels, inputs, size)

    def _sample(self, events: RunEvents) -> None:
        """Label the words of a few rows, for the report."""
        rows = self._request.train_rows if self._request.eval_rows is None else self._request.eval_rows
        texts = [row["tokens"] for row in rows.select(range(min(SAMPLED, len(rows))))]
        for words, tags in zip(texts, self.predict(texts), strict=True):
            events.sample(self.native.state.global_step, " ".join(words), " ".join(tags))


def build_tagger(request: TrainRequest) -> TrlTrainer:
    """Load the model with a head for the labels, tokenise the words, and construct transformers' Trainer.

    Raises:
        ConfigError, DataError, BackendUnavailableError: what only the library, the model or the tokenizer can tell.
    """
    labels = labelling.labels_of(request)
    loaded, headed, longest = labelling.load(request, "TOKEN_CLS", labels)
    words = Words(loaded.tokenizer, longest)
    train, held_back, truth = words(request.train_rows, "dataset_name"), None, None
    if request.eval_rows is not None:
        held_back, truth = words.held_back(request.eval_rows, "eval_dataset_name")
        metrics.tell_no_spans(labels.names)
    task = WordTask(labels, truth)
    native, wanted = labelling.construct(loaded, headed, task, labelling.Tokenised(train, held_back))
    return Tagger(native, loaded, wanted, words, labels)
