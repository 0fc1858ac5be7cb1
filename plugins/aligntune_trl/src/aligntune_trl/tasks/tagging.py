"""Token classification: a label for each word, learnt at the first piece of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DataCollatorForTokenClassification

from aligntune_core import ConfigError, DataError, Labels, RunEvents, TrainRequest
from aligntune_trl.base import TrlTrainer
from aligntune_trl.generate import SAMPLED
from aligntune_trl.tasks import labelling, metrics
from aligntune_trl.tasks.labelling import NONE

log = logging.getLogger("aligntune")


@dataclass(frozen=True, slots=True)
class TaggedTokens:
    """Words as the model sees them; a label's number at the first piece of each word, -100 elsewhere."""

    input_ids: list[int]
    labels: list[int]


class WordTask:
    """How the logits of tokens become a loss and numbers; see `labelling.Task`.

    Args:
        labels: what the outputs mean.
    """

    collator = DataCollatorForTokenClassification

    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy at each token (rows, tokens); 0 where there is no label."""
        flat = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
        return flat.view_as(targets)

    def kept(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The likeliest label of each token, and the loss there; (rows, tokens, 2)."""
        return torch.stack([logits.argmax(-1).float(), self.loss(logits, targets)], dim=-1)

    def measure(self, kept: Any, targets: Any) -> dict[str, float]:
        """See `metrics.of_words`."""
        there = targets != NONE
        truth = [row[mask].tolist() for row, mask in zip(targets, there, strict=True)]
        guessed = [row[mask].astype(int).tolist() for row, mask in zip(kept[..., 0], there, strict=True)]
        loss = float(kept[..., 1][there].mean()) if there.any() else 0.0
        return {"exact_loss": loss} | metrics.of_words(self._labels, guessed, truth)


class Words:
    """Tokenises rows of words.

    Args:
        tokenizer: the model's; a fast one, which says to which word a token belongs.
        longest: tokens of a row at most.
    """

    def __init__(self, tokenizer: Any, longest: int) -> None:
        if not getattr(tokenizer, "is_fast", False):
            problem = "its tokenizer cannot say to which word a token belongs"
            raise ConfigError(problem, "give a model with a tokenizer.json", field="model_name")
        if getattr(tokenizer, "add_prefix_space", None) is False:  # byte-level ones need it for single words
            tokenizer.add_prefix_space = True
        self._tokenizer, self._longest = tokenizer, longest

    def encode(self, rows: Sequence[Sequence[str]]) -> Any:
        """The tokens of rows of words, cut."""
        options = {"is_split_into_words": True, "truncation": True, "max_length": self._longest}
        return self._tokenizer([list(row) for row in rows], **options)

    @staticmethod
    def firsts(encoded: Any, row: int) -> dict[int, int]:
        """Where each word begins: its number → that of its first token; words that were cut off have none."""
        found: dict[int, int] = {}
        for position, word in enumerate(encoded.word_ids(row)):
            if word is not None:
                found.setdefault(word, position)
        return found

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[TaggedTokens]:
        """The rows as the model sees them."""
        encoded = self.encode([row["tokens"] for row in rows])
        done = []
        for at, row in enumerate(rows):
            labels = [NONE] * len(encoded["input_ids"][at])
            for word, position in self.firsts(encoded, at).items():
                labels[position] = row["labels"][word]
            done.append(TaggedTokens(encoded["input_ids"][at], labels))
        return done

    def __call__(self, rows: Any, field: str) -> Any:
        """A `Dataset` of `input_ids` and `labels`; rows that are cut are counted.

        Raises:
            DataError: no row has a word with a label.
        """

        def convert(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
            pairs = zip(batch["tokens"], batch["labels"], strict=True)
            done = self.preview([{"tokens": words, "labels": labels} for words, labels in pairs])
            learnt = [sum(label != NONE for label in row.labels) for row in done]
            return {
                "input_ids": [row.input_ids for row in done],
                "labels": [row.labels for row in done],
                "learnt": learnt,
                "lost": [len(labels) - n for labels, n in zip(batch["labels"], learnt, strict=True)],
            }

        done = rows.map(convert, batched=True, load_from_cache_file=False, remove_columns=rows.column_names)
        if not any(done["learnt"]):
            remedy = "raise max_seq_length, or give rows with words"
            raise DataError("no row has a word with a label", remedy, field=field)
        if lost := sum(done["lost"]):
            rows_cut = sum(n > 0 for n in done["lost"])
            log.info("%s: %d of %d rows are cut at %d tokens, or have words of no token: %d labels are not learnt",
                     field, rows_cut, len(done), self._longest, lost)  # fmt: skip
        return done.select([i for i, n in enumerate(done["learnt"]) if n]).select_columns(["input_ids", "labels"])


class Tagger(TrlTrainer):
    """A `BackendTrainer` whose model labels words."""

    def __init__(self, native: Any, loaded: Any, wanted: Any, words: Words, labels: Labels) -> None:
        self._labels, self._words = labels, words
        super().__init__(native, loaded, wanted, words.preview)

    def facts(self) -> dict[str, Any]:
        return {"labels": list(self._labels.names)}

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        """A list for each input, a label for each of its words; an input is a list of words, or a text of such.

        A word that is beyond what the model reads has the label of none: an empty text.
        """
        rows = [item.split() if isinstance(item, str) else list(item) for item in inputs]
        size = self.native.args.per_device_eval_batch_size
        return [tags for at in range(0, len(rows), size) for tags in self._batch(rows[at : at + size])]

    def _batch(self, rows: Sequence[Sequence[str]]) -> list[list[str]]:
        model, was_training = self._model, self._model.training
        encoded = self._words.encode(rows)
        batch = self._loaded.tokenizer.pad({"input_ids": encoded["input_ids"]}, return_tensors="pt").to(model.device)
        model.eval()
        try:
            with torch.no_grad():
                best = model(**batch).logits.argmax(-1).tolist()
        finally:
            model.train(was_training)
        shift = [batch["input_ids"].shape[1] - len(ids) for ids in encoded["input_ids"]]
        if self._loaded.tokenizer.padding_side != "left":
            shift = [0] * len(rows)
        return [
            self._said(best[at][shift[at] :], self._words.firsts(encoded, at), len(row)) for at, row in enumerate(rows)
        ]

    def _said(self, best: Sequence[int], firsts: Mapping[int, int], words: int) -> list[str]:
        return [self._labels.names[best[firsts[word]]] if word in firsts else "" for word in range(words)]

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
    rows = labelling.tokenised(request, words)
    native, wanted = labelling.construct(loaded, headed, WordTask(labels), rows)
    return Tagger(native, loaded, wanted, words, labels)
