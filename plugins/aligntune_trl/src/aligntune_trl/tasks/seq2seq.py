"""Sequence-to-sequence models (T5, BART, an encoder with a decoder): one reads a question, the other answers."""

from __future__ import annotations

import logging
import warnings
from typing import Any, cast

from peft import get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForSeq2SeqLM,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from aligntune_core import ConfigError, TrainRequest
from aligntune_core.config import SftConfig
from aligntune_trl import building, loading
from aligntune_trl.base import TrlTrainer
from aligntune_trl.loop import MeanOverTokens, without_repeats
from aligntune_trl.tasks import labelling, metrics
from aligntune_trl.tasks.exchanges import Exchanges, asks_with_special_tokens, check_settings
from aligntune_trl.tokenise import Tokeniser
from aligntune_trl.tokenizer import longest_read

log = logging.getLogger("aligntune")
_Trainer: Any = object  # transformers' class, which comes beneath when it is known


DECIDED = ("generation_config", "generation_max_length", "predict_with_generate", "sortish_sampler")
"""Fields of Seq2SeqTrainingArguments that our way to evaluate replaces, or that the library itself does not read."""


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


def set_start(model: Any, tokenizer: Any) -> None:
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


class Answerer(TrlTrainer):
    """A `BackendTrainer` whose model reads a question with one half and answers with the other."""

    def __init__(self, native: Any, loaded: Any, wanted: Any, exchanges: Exchanges) -> None:
        self._exchanges = exchanges
        super().__init__(native, loaded, wanted, exchanges.preview)

    def facts(self) -> dict[str, Any]:
        return {"max_length": self._longest}

    @property
    def _longest(self) -> int | None:
        return self._exchanges.longest

    @property
    def _special_tokens(self) -> bool:
        return asks_with_special_tokens(self._loaded.tokenizer, chat=self._loaded.chat)


def build_seq2seq(request: TrainRequest) -> TrlTrainer:
    """Load the model, tokenise the rows, and construct transformers' Seq2SeqTrainer.

    Raises:
        ConfigError, DataError, BackendUnavailableError: what only the library, the model or the tokenizer can tell.
    """
    config = cast("SftConfig", request.config)
    check_settings(config)
    labelling.check_options(config, *DECIDED)
    if request.eval_rows is not None:
        metrics.check_installed("sacrebleu")
    loaded = building.begin(request, Seq2SeqTrainingArguments)
    model = building.load_policy(loaded, AutoModelForSeq2SeqLM)
    set_start(model, loaded.tokenizer)
    tokeniser = Tokeniser(loaded.tokenizer, offsets=False)
    exchanges = Exchanges(tokeniser, longest_read(config, model.config, loaded.tokenizer))
    rows = labelling.tokenised(request, exchanges)
    loading.check_embeddings(model, rows.train["input_ids"])
    wanted = building.wanted_arguments(loaded, model, own_arguments(), Seq2SeqTrainingArguments)
    arguments = building.make_checked(Seq2SeqTrainingArguments, wanted, config)
    trained: Any = model
    if (lora := loading.lora_config(config, model, "SEQ_2_SEQ_LM")) is not None:
        trained = get_peft_model(model, lora)
    with building.options_told(config):
        native = labelling.on_top(_Answering, Seq2SeqTrainer, config)(
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
    return Answerer(native, loaded, wanted, exchanges)
