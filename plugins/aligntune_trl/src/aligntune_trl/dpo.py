"""Direct preference optimisation through TRL's DPOTrainer."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

from peft import PeftModel

from aligntune_core import TrainRequest
from aligntune_core.config import DpoConfig
from aligntune_trl import building, loading
from aligntune_trl.arguments import refusals_told
from aligntune_trl.base import TrlTrainer
from aligntune_trl.evaluation import per_row
from aligntune_trl.loop import guarded
from aligntune_trl.pairs import Pair, PairTokeniser, sequences, tokenise_pairs


def dpo_arguments(config: DpoConfig) -> dict[str, Any]:
    """The arguments of DPOConfig alone."""
    return {
        "max_length": config.max_seq_length,
        "truncation_mode": "keep_start",
        "beta": config.beta,
        "loss_type": list(config.loss_type),
        "loss_weights": None,
        "label_smoothing": 0.0,
        "ld_alpha": None,
        "f_divergence_type": "reverse_kl",
        "use_weighting": False,
        "disable_dropout": True,
        "precompute_ref_log_probs": False,
        "sync_ref_model": False,
        "padding_free": False,
        "activation_offloading": False,
    }


_Trainer: Any = object  # TRL's class, which comes beneath when it is known


class _Prepared(_Trainer):  # type: ignore[misc]
    """What `prepared` puts on top of a trainer class."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


def prepared(base: type[Any]) -> type[Any]:
    """A trainer class that takes rows which are tokenised already: TRL would tokenise them again."""
    return type(base.__name__, (_Prepared, base), {})


def reference_of(loaded: building.Loaded, model: Any, *, adapts: bool) -> Any:
    """The model as it is before training, where all its weights are trained; an adapter is switched off instead."""
    if adapts or isinstance(model, PeftModel):
        return None
    return copy.deepcopy(model).eval().requires_grad_(False)


def build_dpo(request: TrainRequest) -> TrlTrainer:
    """Load the model, tokenise the pairs, and construct TRL's trainer.

    Raises:
        ConfigError, DataError: what only the library, the model or the tokenizer can tell.
    """
    trl = building.library(request, "DPOTrainer", "DPOConfig")
    config = cast("DpoConfig", request.config)
    loaded = building.begin(request, trl.DPOConfig)
    tokeniser, longest = PairTokeniser(loaded.tokenizer), config.max_seq_length
    train = tokenise_pairs(request.train_rows, tokeniser, longest, "dataset_name", cut=True)
    held_back = None
    if request.eval_rows is not None:
        held_back = tokenise_pairs(request.eval_rows, tokeniser, longest, "eval_dataset_name", cut=True)
    model = building.load_policy(loaded)
    loading.check_lengths(model, sequences(train))
    adapter = loading.lora_config(config, model)
    wanted = building.wanted_arguments(loaded, model, dpo_arguments(config), trl.DPOConfig)
    arguments = building.make_checked(trl.DPOConfig, wanted, config)
    with refusals_told(*(("backend_options",) if config.backend_options else ("loss_type", config.loss_type))):
        native = per_row(guarded(prepared(trl.DPOTrainer)))(
            model=model,
            ref_model=reference_of(loaded, model, adapts=adapter is not None),
            args=arguments,
            train_dataset=train,
            eval_dataset=held_back,
            processing_class=loaded.tokenizer,
            peft_config=adapter,
        )

    def preview(rows: Sequence[Mapping[str, Any]]) -> list[Pair]:
        return [pair.cut(longest) for pair in tokeniser(rows)]

    return TrlTrainer(native, loaded, wanted, preview)
