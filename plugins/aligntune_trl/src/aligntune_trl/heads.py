"""Models with a head for labels: loaded with every other weight from the files, and what an adapter saves of them."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from peft import (
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.utils.save_and_load import load_peft_weights
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification, set_seed

from aligntune_core import ConfigError, Labels
from aligntune_core.config import TrainingConfig
from aligntune_trl import loading
from aligntune_trl.skeleton import POOLER, Skeleton, head_modules, make_new

log = logging.getLogger("aligntune")

Kind = Literal["SEQ_CLS", "TOKEN_CLS"]
"""PEFT's names of models that label texts, and words."""
_AUTO: dict[Kind, Any] = {"SEQ_CLS": AutoModelForSequenceClassification, "TOKEN_CLS": AutoModelForTokenClassification}
PROBLEMS = {"single": "single_label_classification", "multi": "multi_label_classification", "regression": "regression"}
"""Our kinds of labels → transformers' problem_type."""


@dataclass(frozen=True, slots=True)
class Headed:
    """A model with a head for labels.

    Attributes:
        model: the model, or an adapter on it.
        kind: what it labels.
        trained: the modules that are trained whole under an adapter, and saved with it.
    """

    model: Any
    kind: Kind
    trained: tuple[str, ...]


def load_headed(
    kind: Kind, config: TrainingConfig, precision: str, tokenizer: Any, labels: Labels, *, new: bool = True
) -> Headed:
    """A model that labels, from a checkpoint of any kind that can have such a head; one for other labels is replaced.

    Args:
        kind: what is labelled.
        config, precision, tokenizer: how it is loaded, and with which tokens.
        labels: what the head is for.
        new: put a new head onto a model that has none; else such a model is refused.

    Raises:
        ConfigError: its kind of model has none; a weight below the head is in no file.
    """
    set_seed(config.seed)
    name, options = str(config.model_name), loading.load_options(config, precision)
    with loading.telling(config):
        if not loading.is_adapter(name):
            return with_labels(kind, name, name, labels, tokenizer, options, new=new)
        adapter = PeftConfig.from_pretrained(name)
        base = str(adapter.base_model_name_or_path)
        if adapter.task_type == kind:
            _check_labels(name, labels)
            headed = with_labels(kind, base, name, labels, tokenizer, options)
            model = PeftModel.from_pretrained(headed.model, name, is_trainable=True)
            loading.check_adapter_whole(model, name)
            return Headed(model, kind, headed.trained)
        headed = with_labels(kind, base, name, labels, tokenizer, options)
        return Headed(onto_head(headed.model, adapter, name, kind, headed.trained), kind, headed.trained)


def given(model: Any, kind: Kind, labels: Labels) -> Headed:
    """An open model that has a head already; from now on its config says what the rows' labels are called.

    Raises:
        ConfigError: it gives another number of outputs, or its config has other names for them.
    """
    outputs = getattr(model.config, "num_labels", None)
    if outputs != labels.outputs:
        problem = f"it gives {outputs} numbers, and the rows have {labels.outputs} labels"
        raise ConfigError(problem, f"pass a model with num_labels={labels.outputs}, or model_name", field="model")
    if others := _others(model.config, labels):
        problem, remedy = f"its head is for other labels: {others}", "pass model_name, or change its config's id2label"
        raise ConfigError(problem, remedy, field="model")
    for name, value in _settings(kind, labels).items():
        setattr(model.config, name, value)
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    return Headed(model, kind, tuple(sorted(head_modules(inner))))


def with_labels(
    kind: Kind,
    base: str,
    name: str,
    labels: Labels,
    tokenizer: Any,
    options: Mapping[str, Any],
    *,
    new: bool = True,
) -> Headed:
    """A full model with a head; told as the model `name`, which may be an adapter of it.

    A head is kept for the labels that the checkpoint names. Where it names none, it is kept for as many of any name.

    Raises:
        ConfigError: as `load_headed`.
    """
    trust = bool(options["trust_remote_code"])
    config = AutoConfig.from_pretrained(base, revision=options.get("revision"), trust_remote_code=trust)
    skeleton = partial(Skeleton, _AUTO[kind], config, labels.outputs, trust_remote_code=trust)
    try:
        if "quantization_config" in options:
            options = loading.but_for(skeleton().left_whole(), options)
        model, report = _AUTO[kind].from_pretrained(
            base,
            ignore_mismatched_sizes=True,  # a head for other labels; what else does not fit is refused below
            output_loading_info=True,
            **_settings(kind, labels),
            **options,
        )
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        problem = f"transformers has no {'text' if kind == 'SEQ_CLS' else 'word'} classifier for this kind of model"
        raise ConfigError(problem, "give an encoder or a causal model", field="model_name", value=name) from error
    missing = {*report["missing_keys"], *(entry[0] for entry in report["mismatched_keys"])}
    if not _beside(model, missing) and not _keeps(config, labels):
        missing |= (by_label := skeleton().by_label())
        make_new(model, by_label)
    made_up = _new_modules(model, missing, name, new=new)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return Headed(model, kind, tuple(sorted(made_up | head_modules(model))))


def _beside(model: Any, keys: Collection[str]) -> bool:
    """Whether some of these weights are beside the backbone."""
    return not all(key.startswith(f"{model.base_model_prefix}.") for key in keys)


def _keeps(config: Any, labels: Labels) -> bool:
    """Whether a checkpoint with a head of that size keeps it; told unless it names these labels itself."""
    if others := _others(config, labels):
        log.info("the model's own head is for other labels: %s", others)
    elif labels.names and labels.names != _names(config):
        log.info("the model's own head does not name its labels, and is kept for %s", _listed(labels.names))
    return not others


def _names(config: Any) -> tuple[str, ...]:
    """What a config calls the labels, in the order of their numbers."""
    return tuple(str(config.id2label[number]) for number in sorted(config.id2label or {}))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _others(config: Any, labels: Labels) -> str:
    """What a head is for, where that is something else than the labels; empty where its config does not say it."""
    names, problem = _names(config), getattr(config, "problem_type", None)
    values = PROBLEMS["regression"]
    if problem and (problem == values) != (labels.problem == "regression"):
        return "values" if problem == values else _listed(names)
    named = not all(re.fullmatch(r"LABEL_\d+", name) for name in names)
    return _listed(names) if labels.names and named and names != labels.names else ""


def _settings(kind: Kind, labels: Labels) -> dict[str, Any]:
    """What the model's config is to say of the labels."""
    found: dict[str, Any] = {"problem_type": PROBLEMS[labels.problem]} if kind == "SEQ_CLS" else {}
    if not labels.names:
        return found | {"num_labels": labels.outputs}
    named = dict(enumerate(labels.names))
    return found | {"id2label": named, "label2id": {label: number for number, label in named.items()}}


def _new_modules(model: Any, made_up: Collection[str], name: str, *, new: bool) -> set[str]:
    """The modules of the backbone whose weights are made up, which are a part of the head.

    Raises:
        ConfigError: another weight is in no file, or has another size there.
    """
    below, made_up = f"{model.base_model_prefix}.", sorted(made_up)
    if lost := [key for key in made_up if key.startswith(below) and POOLER not in key]:
        raise loading.lacks(name, lost)
    if made_up and not new:
        problem = f"it gives no labels: the weights of its head, {made_up[0]}, are in no file"
        raise ConfigError(problem, "give a model that was trained to label", field="model_name", value=name)
    if made_up and not _brings_head(name, model):
        log.info("the model gets a new head: %s", ", ".join(sorted({key.rpartition(".")[0] for key in made_up})))
    return {POOLER.strip(".") for key in made_up if POOLER in key}


def _brings_head(name: str, model: Any) -> bool:
    """Whether `name` is an adapter whose file has a head like the model's, which takes the place of the new one."""
    task = PeftConfig.from_pretrained(name).task_type if loading.is_adapter(name) else None
    return task in _AUTO and type(model).__name__.endswith(_AUTO[task].__name__.removeprefix("AutoModel"))


def _check_labels(name: str, labels: Labels) -> None:
    """Refuse an adapter whose head is for other labels: only a whole head can be replaced.

    Raises:
        ConfigError: names them.
    """
    if not (Path(name).expanduser() / "config.json").exists():
        return
    found = AutoConfig.from_pretrained(name, trust_remote_code=False)
    if labels.names and _names(found) != labels.names:
        problem = f"this adapter was trained with its head for other labels: {_listed(_names(found))}"
        raise ConfigError(problem, "give its base model", field="model_name", value=name)


def onto_head(model: Any, adapter: Any, name: str, kind: Kind, trained: Collection[str]) -> Any:
    """An adapter of a causal model, put onto the same model with a head: what was learnt is kept, with its scaling.

    Raises:
        ConfigError: a weight of the adapter has no place in it.
    """
    onto = copy.deepcopy(adapter)  # whatever else it says decides what its weights mean
    onto.task_type, onto.inference_mode = kind, False
    onto.modules_to_save = sorted({*(adapter.modules_to_save or ()), *trained})
    headed = get_peft_model(model, onto)
    whole = {key: value for key, value in get_peft_model_state_dict(headed).items() if "lora_" not in key}
    result = set_peft_model_state_dict(headed, whole | load_peft_weights(name, device="cpu"))
    if unplaced := sorted(result.unexpected_keys):
        problem = f"{len(unplaced)} of its adapter's weights have no place in this model, such as {unplaced[0]}"
        raise ConfigError(problem, "give a full model", field="model_name", value=name)
    return headed


def adapter_of(config: TrainingConfig, headed: Headed) -> LoraConfig | None:
    """The adapter to add, or None; the head is trained whole and saved with it."""
    lora = loading.lora_config(config, headed.model, headed.kind)
    if lora is not None:
        lora.modules_to_save = list(headed.trained)
        lora.exclude_modules = list(headed.trained)
    return lora
