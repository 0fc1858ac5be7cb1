"""Sequence-to-sequence models (T5, BART, an encoder with a decoder): one reads a question, the other answers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from peft import get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForSeq2SeqLM,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from aligntune_core import ConfigError, DataError, TrainRequest
from aligntune_trl import building, heads, loading
from aligntune_trl.base import TrlTrainer
from aligntune_trl.loop import MeanOverTokens, without_repeats
from aligntune_trl.tasks import labelling, metrics
from aligntune_trl.tokenise import Tokeniser, Tokens

log = logging.getLogger("aligntune")
_Trainer: Any = object  # transformers' class, which comes beneath when it is known


def own_arguments() -> dict[str, Any]:
    """The arguments of Seq2SeqTrainingArguments alone."""
    return {
        "prediction_loss_only": False,
        "predict_with_generate": True,
        "generation_num_beams": 1,
        "include_num_input_tokens_seen": "non_padding",
        "label_names": ["labels"],
    }


class _Answering(labelling.ByTarget, MeanOverTokens):
    """Evaluates by answering: greedy, and no longer than the longest answer that is expected."""

    longest_answer = 1

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """The library's, with what is generated fixed."""
        return super().evaluate(*args, max_new_tokens=self.longest_answer, do_sample=False, **kwargs)

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The library's; its loss is the mean over this batch's tokens."""
        inputs = without_repeats(self._prepare_inputs(inputs), self.accelerator)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Version v4.12.0", FutureWarning)  # told to all who give labels
            loss, answers, targets = super().prediction_step(model, inputs, *args, **kwargs)
        self.add(loss.detach(), (inputs["labels"] != labelling.NONE).sum())
        return loss, answers, targets


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy at each token of an answer (answers, tokens); 0 at padding."""
    flat = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return flat.view_as(targets)


class Exchanges:
    """Tokenises rows: each answer in a row, after all that stands before it, is an exchange.

    Args:
        tokeniser: renders conversations, in the form that `predict` asks in.
        longest: tokens of a question, and of an answer, at most.
    """

    def __init__(self, tokeniser: Tokeniser, longest: int) -> None:
        self._tokeniser, self._longest = tokeniser, longest

    def texts(self, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """The questions and answers of a row."""
        if "messages" not in row:
            yield row["prompt"], row["completion"]
            return
        messages = row["messages"]
        for turn in range(row["context"], len(messages)):
            if messages[turn]["role"] == "assistant":
                yield self._tokeniser.render(messages[:turn], ask=True), messages[turn]["content"]

    def tokens(self, row: Mapping[str, Any]) -> Iterator[tuple[list[int], list[int]]]:
        """The tokens of each exchange, uncut; an answer ends with the token that ends a sequence."""
        tokenizer, chat = self._tokeniser.tokenizer, "messages" in row
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        for question, answer in self.texts(row):
            asked = tokenizer(question, add_special_tokens=not chat or _ends_itself(tokenizer), verbose=False).input_ids
            said = tokenizer(text_target=answer, verbose=False).input_ids
            yield asked, said if end is None or said[-1:] == [end] else [*said, end]

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[Tokens]:
        """Each row's exchanges one after the other: what the encoder reads is not trained, the answers are."""
        done = []
        for row in rows:
            ids, labels = list[int](), list[int]()
            for asked, said in self.tokens(row):
                asked, said = asked[: self._longest], said[: self._longest]
                ids += asked + said
                labels += [labelling.NONE] * len(asked) + said
            done.append(Tokens(ids, labels))
        return done

    def __call__(self, rows: Any, field: str) -> Any:
        """A `Dataset` of `input_ids` and `labels`, an exchange a row; those that are cut are counted.

        Raises:
            DataError: rows of plain text, which ask nothing.
        """
        if "text" in rows.column_names:
            remedy = "give rows with a question and an answer"
            raise DataError("rows of plain text have no question for the encoder to read", remedy, field=field)

        def convert(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
            split = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
            pairs = [pair for row in split for pair in self.tokens(row)]
            return {
                "input_ids": [asked[: self._longest] for asked, _ in pairs],
                "labels": [said[: self._longest] for _, said in pairs],
                "cut": [max(len(asked), len(said)) > self._longest for asked, said in pairs],
            }

        done = rows.map(convert, batched=True, load_from_cache_file=False, remove_columns=rows.column_names)
        if len(done) != len(rows):
            log.info("%s: %d answers in %d rows, each after what stands before it", field, len(done), len(rows))
        if cut := sum(done["cut"]):
            log.info(
                "%s: %d of %d answers or their questions are cut at %d tokens", field, cut, len(done), self._longest
            )
        return done.select_columns(["input_ids", "labels"])


def _ends_itself(tokenizer: Any) -> bool:
    """Whether the tokenizer writes special tokens around a text, which encoders were trained with."""
    return len(tokenizer("a").input_ids) > len(tokenizer("a", add_special_tokens=False).input_ids)


def _set_start(model: Any, tokenizer: Any) -> None:
    """Say with which token the decoder begins, where the checkpoint does not.

    Raises:
        ConfigError: no token can be told.
    """
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    if getattr(model.config, "decoder_start_token_id", None) is None:
        starts = (tokenizer.cls_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id)
        start = next((token for token in starts if token is not None), None)
        if start is None:
            remedy = "set decoder_start_token_id in its config.json"
            raise ConfigError("it does not say how an answer begins", remedy, field="model_name")
        model.config.decoder_start_token_id = start
        log.info("the decoder begins with %s", tokenizer.convert_ids_to_tokens(start))
    model.generation_config.max_length = None  # an old default of 20, beside which ours would be warned of each time
    model.generation_config.decoder_start_token_id = model.config.decoder_start_token_id
    model.generation_config.pad_token_id = model.config.pad_token_id


def _measure(tokenizer: Any) -> Any:
    """What compares generated answers with those of the rows."""

    def texts(rows: Any) -> list[str]:
        ids = [[token for token in row if token >= 0] for row in rows.tolist()]
        return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def measure(prediction: Any) -> dict[str, float]:
        return metrics.of_answers(texts(prediction.predictions), texts(prediction.label_ids))

    return measure


def build_seq2seq(request: TrainRequest) -> TrlTrainer:
    """Load the model, tokenise the rows, and construct transformers' Seq2SeqTrainer.

    Raises:
        ConfigError, DataError, BackendUnavailableError: what only the library, the model or the tokenizer can tell.
    """
    if request.eval_rows is not None:
        metrics.check_installed("sacrebleu")
    config: Any = request.config
    loaded = building.begin(request, Seq2SeqTrainingArguments)
    model = building.load_policy(loaded, AutoModelForSeq2SeqLM)
    _set_start(model, loaded.tokenizer)
    exchanges = Exchanges(Tokeniser(loaded.tokenizer), heads.longest_read(config, model, loaded.tokenizer))
    rows = labelling.tokenised(request, exchanges)
    loading.check_embeddings(model, rows.train["input_ids"])
    wanted = building.wanted_arguments(loaded, model, own_arguments(), Seq2SeqTrainingArguments)
    arguments = building.make_checked(Seq2SeqTrainingArguments, wanted, config)
    trained: Any = model
    if (lora := loading.lora_config(config, model, "SEQ_2_SEQ_LM")) is not None:
        trained = get_peft_model(model, lora)
    with building.options_told(config):
        native = labelling.on_top(_Answering, Seq2SeqTrainer)(
            model=trained,
            args=arguments,
            data_collator=DataCollatorForSeq2Seq(loaded.tokenizer, model=model),
            train_dataset=rows.train,
            eval_dataset=rows.eval,
            processing_class=loaded.tokenizer,
            compute_loss_func=labelling.mean_loss(token_loss),
            compute_metrics=_measure(loaded.tokenizer),
        )
    native.model_accepts_loss_kwargs = False  # the loss is ours; a model's forward need not know what it is divided by
    if rows.eval is not None:
        native.longest_answer = max(map(len, rows.eval["labels"]))
    return TrlTrainer(native, loaded, wanted, exchanges.preview)
