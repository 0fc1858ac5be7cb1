"""From a request to what TRL's trainers are made of: the tokenizer, the model, and every argument."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import trl
from transformers import AutoModelForCausalLM, set_seed

from aligntune_core import BackendUnavailableError, TrainRequest
from aligntune_core.config import TrainingConfig
from aligntune_trl import loading
from aligntune_trl.arguments import (
    check_optimiser,
    make_arguments,
    refusals_told,
    training_arguments,
    with_options,
)
from aligntune_trl.generate import end_ids
from aligntune_trl.pristine import changed
from aligntune_trl.quiet import hush_handlers
from aligntune_trl.tokenizer import load_tokenizer, tokenizer_name


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a trainer is made of: the request, the precision, the tokenizer, and the model once it is loaded."""

    request: TrainRequest
    precision: str
    tokenizer: Any

    @property
    def chat(self) -> bool:
        """Whether the rows are conversations."""
        return self.request.chat


@dataclass(frozen=True, slots=True)
class Brought:
    """A request's model where another backend, built on this one, loads it in a process that is its own.

    Attributes:
        load: settings and precision → the model, with its adapter; called when its turn comes. It may have changed TRL.
    """

    load: Callable[[TrainingConfig, str], Any]


def library(request: TrainRequest, *classes: str) -> Any:
    """TRL, in a process in which nothing has replaced these classes of it.

    Raises:
        BackendUnavailableError: training here would not be TRL's.
    """
    if isinstance(request.model, Brought):
        return trl
    if found := changed(getattr(trl, name) for name in classes):
        problem, remedy = (
            f"TRL was patched in this process ({found})",
            "set isolation: process, or start a fresh Python",
        )
        raise BackendUnavailableError(problem, remedy, field="backend", value="trl")
    return trl


def begin(request: TrainRequest, config_class: type) -> Loaded:
    """Everything before rows are tokenised and the model is loaded.

    Raises:
        ConfigError: the options, the precision or the tokenizer cannot be used.
    """
    hush_handlers()
    config = request.config
    with_options({}, config.backend_options, config_class, config.pinned)  # before anything is loaded
    loading.use_one_gpu(request.environment)
    precision = loading.precision_of(config)
    tokenizer = load_tokenizer(config, tokenizer_name(config, request.model), request.row_format)
    return Loaded(request, precision, tokenizer)


def load_policy(loaded: Loaded, auto: Any = AutoModelForCausalLM) -> Any:
    """The model that is trained and answers, with every token that ends an answer; `auto` is its kind's class."""
    model = loaded.request.model
    if isinstance(model, Brought):
        set_seed(loaded.request.config.seed)
        model = model.load(loaded.request.config, loaded.precision)
    elif model is None:
        set_seed(loaded.request.config.seed)
        model = loading.load_model(loaded.request.config, loaded.precision, auto)
    loading.keep_quantised_weights_as_loaded(model)
    if ends := end_ids(model, loaded.tokenizer, chat=loaded.chat):
        model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    return model


def wanted_arguments(loaded: Loaded, model: Any, own: Mapping[str, Any], config_class: type) -> dict[str, Any]:
    """All arguments of TRL's config: the shared ones, the algorithm's `own`, and the user's options."""
    request = loaded.request
    shared = training_arguments(
        request.config,
        work_dir=request.work_dir,
        precision=loaded.precision,
        gradient_checkpointing=loading.checkpoints_gradients(request.config, model),
        evaluates=request.eval_rows is not None,
    )
    return with_options(shared | dict(own), request.config.backend_options, config_class, request.config.pinned)


def options_told(config: TrainingConfig) -> contextlib.AbstractContextManager[None]:
    """While TRL's trainer is made: what it refuses comes from `backend_options`, where there are any."""
    return refusals_told("backend_options" if config.backend_options else "")


def make_checked(config_class: type, wanted: Mapping[str, Any], config: TrainingConfig) -> Any:
    """TRL's config, with an optimizer that can be made.

    Raises:
        ConfigError: TRL refuses a value.
    """
    arguments = make_arguments(config_class, wanted, config.backend_options)
    check_optimiser(arguments)
    return arguments
