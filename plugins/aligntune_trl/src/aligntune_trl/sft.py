"""Supervised fine-tuning through TRL's SFTTrainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from aligntune_core import TrainRequest
from aligntune_core.config import SftConfig
from aligntune_trl import building, loading
from aligntune_trl.base import TrlTrainer
from aligntune_trl.loop import guarded, per_token
from aligntune_trl.packing import check_rows_stay_apart, pack
from aligntune_trl.padding import padding_little
from aligntune_trl.token_stream import StreamTrainer, TokenStream, as_dataset, check_one_process, first_rows
from aligntune_trl.tokenise import Tokeniser, Tokens, tokenise_dataset


def sft_arguments(config: SftConfig) -> dict[str, Any]:
    """The arguments of SFTConfig alone; rows come tokenised, so TRL prepares nothing."""
    return {
        "max_length": config.max_seq_length,
        "packing": config.packing,
        "packing_strategy": "bfd",
        "padding_free": False,
        "eval_packing": False,
        "shuffle_dataset": False,
        "completion_only_loss": False,
        "assistant_only_loss": False,
        "loss_type": "nll",
        "activation_offloading": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }


def build_sft(request: TrainRequest) -> TrlTrainer:
    """Load the model, tokenise the rows, and construct TRL's trainer.

    Raises:
        ConfigError, DataError: what only the library, the model or the tokenizer can tell.
    """
    trl = building.library(request, "SFTTrainer", "SFTConfig")
    config = cast("SftConfig", request.config)
    rows = request.train_rows
    if config.streaming:
        check_one_process(request.environment.world_size)
        request = replace(request, train_rows=first_rows(rows))
    loaded = building.begin(request, trl.SFTConfig)
    longest = config.max_seq_length
    tokeniser = Tokeniser(loaded.tokenizer, answers_only=config.assistant_only_loss is not False)
    if not config.streaming:
        train = tokenise_dataset(rows, tokeniser, longest, "dataset_name")
    held_back = None
    if request.eval_rows is not None:
        held_back = tokenise_dataset(request.eval_rows, tokeniser, longest, "eval_dataset_name")
    model = building.load_policy(loaded)
    if config.streaming:
        stream = TokenStream(rows.endless, tokeniser, longest, partial(loading.check_lengths, model))
        train = as_dataset(stream)
    else:
        loading.check_lengths(model, train["input_ids"])
    if config.packing:
        check_rows_stay_apart(model, train)
        train = pack(train, longest)
    wanted = building.wanted_arguments(loaded, model, sft_arguments(config), trl.SFTConfig)
    arguments = building.make_checked(trl.SFTConfig, wanted, config)
    with building.options_told(config):
        native = padding_little(per_token(guarded(trl.SFTTrainer)), config)(
            model=model,
            args=arguments,
            train_dataset=train,
            eval_dataset=held_back,
            processing_class=loaded.tokenizer,
            peft_config=loading.lora_config(config, model),
        )

    def preview(rows: Sequence[Mapping[str, Any]]) -> list[Tokens]:
        return [tokens.cut(longest) for tokens in tokeniser(rows)]

    if config.streaming:
        return StreamTrainer(stream, native, loaded, wanted, preview)
    return TrlTrainer(native, loaded, wanted, preview)
