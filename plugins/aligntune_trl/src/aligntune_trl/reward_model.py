"""Training a reward model through TRL's RewardTrainer: a score for each answer, learnt from preferences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from aligntune_core import ConfigError, RunEvents, TrainRequest
from aligntune_core.config import RewardModelConfig
from aligntune_trl import building, loading, scoring
from aligntune_trl.base import TrlTrainer
from aligntune_trl.dpo import prepared
from aligntune_trl.evaluation import per_row
from aligntune_trl.generate import SAMPLED, shown
from aligntune_trl.loop import guarded
from aligntune_trl.pairs import Pair, PairTokeniser, sequences, tokenise_pairs


def reward_arguments(config: RewardModelConfig) -> dict[str, Any]:
    """The arguments of RewardConfig alone."""
    return {
        "max_length": config.max_seq_length,
        "disable_dropout": True,
        "center_rewards_coefficient": None,
        "activation_offloading": False,
    }


def _whole_sequences(pairs: Any) -> Any:
    """The pairs as RewardTrainer reads them: either answer after the prompt."""
    from datasets import Dataset

    joined = list(sequences(pairs))
    return Dataset.from_dict({"chosen_ids": joined[0::2], "rejected_ids": joined[1::2]})


class RewardModelTrainer(TrlTrainer):
    """A `BackendTrainer` whose model scores answers."""

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        """A score for each input: a question with its answer, as text or as messages."""
        config = self._request.config
        return scoring.scores(self._model, self._loaded.tokenizer, inputs, config.eval_batch_size or config.batch_size)

    def _sample(self, events: RunEvents) -> None:
        """Score both answers of a few pairs, for the report."""
        rows = self._request.train_rows if self._request.eval_rows is None else self._request.eval_rows
        for row in rows.select(range(min(SAMPLED, len(rows)))):
            for answer in ("chosen", "rejected"):
                score = self.predict([row["prompt"] + row[answer]])[0]
                text = f"{shown(row['prompt'])}\n({answer}) {shown(row[answer])}"
                events.sample(self.native.state.global_step, text, f"score {score:.3f}")


def build_reward_model(request: TrainRequest) -> TrlTrainer:
    """Load the model with a head for one score, tokenise the pairs, and construct TRL's trainer.

    Raises:
        ConfigError, DataError: what only the library, the model or the tokenizer can tell.
    """
    trl = building.library(request, "RewardTrainer", "RewardConfig")
    config = cast("RewardModelConfig", request.config)
    if request.model is not None and getattr(request.model.config, "num_labels", None) != 1:
        remedy = "pass a model for sequence classification with num_labels=1, or model_name"
        raise ConfigError("it gives no single score", remedy, field="model")
    loaded = building.begin(request, trl.RewardConfig)
    tokeniser, longest = PairTokeniser(loaded.tokenizer), config.max_seq_length
    train = tokenise_pairs(request.train_rows, tokeniser, longest, "dataset_name", cut=False)
    held_back = None
    if request.eval_rows is not None:
        held_back = tokenise_pairs(request.eval_rows, tokeniser, longest, "eval_dataset_name", cut=False)
    model = (
        request.model if request.model is not None else scoring.load_scorer(config, loaded.tokenizer, loaded.precision)
    )
    loading.keep_quantised_weights_as_loaded(model)
    loading.check_lengths(model, sequences(train))
    wanted = building.wanted_arguments(loaded, model, reward_arguments(config), trl.RewardConfig)
    arguments = building.make_checked(trl.RewardConfig, wanted, config)
    with building.options_told(config):
        native = per_row(guarded(prepared(trl.RewardTrainer)))(
            model=model,
            args=arguments,
            train_dataset=_whole_sequences(train),
            eval_dataset=None if held_back is None else _whole_sequences(held_back),
            processing_class=loaded.tokenizer,
            peft_config=loading.lora_config(config, model, "SEQ_CLS"),
        )

    def preview(rows: Sequence[Mapping[str, Any]]) -> list[Pair]:
        return tokeniser(rows)

    return RewardModelTrainer(native, loaded, wanted, preview)
