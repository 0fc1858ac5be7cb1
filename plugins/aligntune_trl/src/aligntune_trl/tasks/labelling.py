"""What text and word classification share: transformers' Trainer on a model with a head for labels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

from aligntune_core import BackendUnavailableError, ConfigError, Labels, TrainRequest
from aligntune_core.config import TrainingConfig
from aligntune_trl import building, heads, loading
from aligntune_trl.building import Loaded
from aligntune_trl.loop import guarded
from aligntune_trl.padding import padding_little
from aligntune_trl.tasks import metrics
from aligntune_trl.tokenizer import longest_read

NONE = -100
"""The label of a token that has none."""
_Trainer: Any = object  # transformers' class, which comes beneath when it is known


class Task(Protocol):
    """What differs between labelling texts and words."""

    collator: Callable[[Any], Any]
    """Of a tokenizer: puts rows into a batch."""

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of each target, 0 where nothing is to be learnt; of any shape."""

    def kept(self, logits: Tensor, targets: Tensor) -> Tensor:
        """What is kept of a batch's logits for `measure`."""

    def measure(self, kept: Any, targets: Any) -> dict[str, float]:
        """The numbers of an evaluation, `exact_loss` among them."""


@dataclass(frozen=True, slots=True)
class Tokenised:
    """Rows as a model reads them; `eval` may be None."""

    train: Any
    eval: Any


class ByTarget(_Trainer):  # type: ignore[misc]
    """The loss of an update is the mean over its targets, however they are cut into batches and processes."""

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The batches of an update, and how many targets all processes have in them."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = sum((targets_in(batch["labels"]) for batch in batches), torch.zeros((), dtype=torch.int64))
        return batches, self.accelerator.reduce(count.to(device), reduction="sum")


class _Measured(ByTarget):
    """The loss of an evaluation is the one that `measure` gave, the mean over its targets, of rows in their order."""

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        return SequentialSampler(eval_dataset)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        output.metrics[f"{prefix}_loss"] = output.metrics.pop(f"{prefix}_exact_loss")
        return output


def mean_loss(each: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A loss as transformers' Trainer calls it, of the loss of each target given logits and targets."""

    def loss(outputs: Any, targets: Tensor, num_items_in_batch: Any = None) -> Tensor:
        count = targets_in(targets) if num_items_in_batch is None else num_items_in_batch
        return each(outputs["logits"], targets).sum() / count

    return loss


def targets_in(targets: Tensor) -> Tensor:
    """How many there are: numbers and values all count, labels of words where there is one."""
    return torch.tensor(targets.numel()) if targets.is_floating_point() else (targets != NONE).sum()


def own_arguments() -> dict[str, Any]:
    """The arguments of TrainingArguments that only these tasks set."""
    return {
        "prediction_loss_only": False,
        "include_num_input_tokens_seen": "non_padding",
        "label_names": ["labels"],
        "batch_eval_metrics": False,
    }


DECIDED = frozenset(
    {
        "average_tokens_across_devices", "batch_eval_metrics", "dataloader_drop_last", "eval_do_concat_batches",
        "include_for_metrics", "include_num_input_tokens_seen", "label_names", "label_smoothing_factor",
        "length_column_name", "prediction_loss_only",
    }
)  # fmt: skip
"""Fields of TrainingArguments that our loss, our rows and our numbers of an evaluation leave without effect, or break.

The loss is the mean over an update's targets, an evaluation is of all rows.
"""


def check_options(config: TrainingConfig, *more: str) -> None:
    """Refuse options that these tasks decide.

    Args:
        config: the settings.
        more: names of further options.

    Raises:
        ConfigError: names one.
    """
    for name, value in config.backend_options.items():
        if name in DECIDED or name in more:
            problem = f"'{name}' is decided by the task, and would have no effect"
            raise ConfigError(problem, "leave it out", field="backend_options", value=value)


def on_top(mixin: type[Any], base: type[Any], config: TrainingConfig) -> type[Any]:
    """A trainer class of transformers, guarded, with what a task adds.

    Raises:
        BackendUnavailableError: it was patched in this process.
    """
    home = base.training_step.__module__
    if not home.startswith("transformers."):
        problem = f"transformers was patched in this process ({home})"
        raise BackendUnavailableError(problem, "start a fresh Python process", field="backend", value="trl")
    return padding_little(type(base.__name__, (mixin, guarded(base)), {}), config)


def labels_of(request: TrainRequest) -> Labels:
    """The labels of the rows.

    Raises:
        ConfigError: the rows have none.
        BackendUnavailableError: rows are to be evaluated, and a library for it is missing.
    """
    if request.labels is None:
        remedy = "give rows with text and label, or with tokens and labels"
        raise ConfigError("the rows have no labels", remedy, field="task_type", value=request.task)
    if request.eval_rows is not None:
        metrics.check_installed("sklearn", *(("nervaluate",) if request.labels.problem == "tokens" else ()))
    return request.labels


def tokenised(request: TrainRequest, tokenise: Callable[[Any, str], Any]) -> Tokenised:
    """The rows of a request; `tokenise` takes rows and the setting that they come from."""
    held_back = None if request.eval_rows is None else tokenise(request.eval_rows, "eval_dataset_name")
    return Tokenised(tokenise(request.train_rows, "dataset_name"), held_back)


def load(request: TrainRequest, kind: heads.Kind, labels: Labels) -> tuple[Loaded, heads.Headed, int]:
    """Tokenizer and model, and how many tokens it reads of a row.

    Raises:
        ConfigError: what only the library, the model or the tokenizer can tell.
    """
    check_options(request.config)
    loaded = building.begin(request, TrainingArguments)
    if request.model is None:
        headed = heads.load_headed(kind, request.config, loaded.precision, loaded.tokenizer, labels)
    else:
        headed = heads.given(request.model, kind, labels)
    loading.keep_quantised_weights_as_loaded(headed.model)
    return loaded, headed, longest_read(request.config, headed.model.config, loaded.tokenizer)


def construct(loaded: Loaded, headed: heads.Headed, task: Task, rows: Tokenised) -> tuple[Any, Mapping[str, Any]]:
    """transformers' Trainer, and the arguments that it was given.

    Raises:
        ConfigError: it refuses a value; the tokenizer is another model's.
    """
    config, model = loaded.request.config, headed.model
    with contextlib.suppress(NotImplementedError):  # a model that hashes characters has no such table
        loading.check_embeddings(model, rows.train["input_ids"])
    wanted = building.wanted_arguments(loaded, model, own_arguments(), TrainingArguments)
    arguments = building.make_checked(TrainingArguments, wanted, config)
    if (lora := heads.adapter_of(config, headed)) is not None:
        from peft import get_peft_model

        model = get_peft_model(model, lora)

    def measure(prediction: Any) -> dict[str, float]:
        return task.measure(prediction.predictions, prediction.label_ids)

    with building.options_told(config):
        native = on_top(_Measured, Trainer, config)(
            model=model,
            args=arguments,
            data_collator=task.collator(loaded.tokenizer),
            train_dataset=rows.train,
            eval_dataset=rows.eval,
            processing_class=loaded.tokenizer,
            compute_loss_func=mean_loss(task.loss),
            compute_metrics=measure,
            preprocess_logits_for_metrics=task.kept,
        )
    native.model_accepts_loss_kwargs = False  # the loss is ours; a model's forward need not know what it is divided by
    return native, wanted
