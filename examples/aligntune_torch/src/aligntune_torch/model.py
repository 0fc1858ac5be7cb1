"""The model and its tokenizer: loading, saving so that they load again, and answering."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from aligntune_core import ConfigError, StorageError, TrainRequest, storage_error
from aligntune_core.config import TrainingConfig
from aligntune_core.errors import gist
from aligntune_torch.rows import PADDING

LONGEST_ANSWER = 128
"""Tokens of an answer at most."""

transformers_logging.disable_progress_bar()  # core shows the progress of a run


def use_bf16(config: TrainingConfig, device: torch.device) -> bool:
    """Whether to compute in bf16; the weights stay fp32. fp16 would need a gradient scaler, which this example lacks.

    Raises:
        ConfigError: fp16 is asked for, or bf16 of a GPU without it.
    """
    able = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    if config.precision == "fp16" or (config.precision == "bf16" and not able):
        problem = "this backend computes in fp32, or in bf16 where the device can"
        raise ConfigError(problem, "set precision: auto", field="precision", value=config.precision)
    return config.precision == "bf16" or (config.precision == "auto" and able and device.type == "cuda")


def _bad(name: Any, problem: str, remedy: str = "give a whole model of a known kind") -> ConfigError:
    return ConfigError(problem, remedy, field="model_name", value=name)


def load_tokenizer(request: TrainRequest) -> Any:
    """The tokenizer of the named or of the open model.

    Raises:
        ConfigError: there is none, or it cannot say where in the text a token stands.
    """
    config = request.config
    name = config.model_name or getattr(request.model, "name_or_path", "")
    places = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **places)
    except (OSError, ValueError) as error:
        raise _bad(name, f"its tokenizer cannot be loaded: {gist(error)}") from error
    if not getattr(tokenizer, "is_fast", False) or len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise _bad(name, "it has no tokenizer.json")
    return tokenizer


def load_model(request: TrainRequest) -> Any:
    """The user's open model as it is, or the named one in fp32, from safetensors only.

    Raises:
        ConfigError: it cannot be loaded, weights are missing, or only an adapter of it could be trained.
    """
    config, name = request.config, request.config.model_name
    if hasattr(request.model, "peft_config"):  # of a named adapter core knows it, and refuses it
        raise _bad(name, "this backend trains all weights, and no adapter", "give a full, unquantised model")
    if request.model is not None:
        return request.model
    places = {"revision": config.revision, "trust_remote_code": config.trust_remote_code, "use_safetensors": True}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, output_loading_info=True, **places
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _bad(name, f"cannot be loaded: {gist(error)}") from error
    if missing := report["missing_keys"]:  # the library makes up what is missing, and only says so
        raise _bad(name, f"{len(missing)} of its weights are in no file", "download or copy it again")
    return model


def save_model(model: Any, tokenizer: Any, path: Path) -> None:
    """Write model and tokenizer to a folder, then look whether every weight is there.

    Raises:
        StorageError: it cannot be written, or is not whole.
    """
    written, expected = 0, model.num_parameters()
    try:
        path.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
        for file in path.glob("*.safetensors"):
            with safe_open(file, framework="pt") as tensors:
                names = tensors.keys()
                written += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    except SafetensorError as error:  # its word for a full disk is no OSError, by which core would know it
        raise storage_error(path, error) from error
    if written < expected:
        problem = f"of {expected:,} weights, {written:,} were written"
        raise StorageError(problem, "free space and save again", field="output_dir", value=str(path))


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """What ends an answer: the model's own tokens, the end of a sequence, and the chat template's end of a turn."""
    own = model.generation_config.eos_token_id
    found = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
    if tokenizer.chat_template:
        turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        tail = str(tokenizer.apply_chat_template(turn, tokenize=False)).rpartition("b")[2]
        special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
        found |= special & set(tokenizer(tail, add_special_tokens=False).input_ids)
    return sorted(found)


@torch.no_grad()
def answer(model: Any, tokenizer: Any, text: str, *, special_tokens: bool) -> str:
    """The greedy continuation of one text: one at a time, so that nothing is padded."""
    asked = tokenizer(text, return_tensors="pt", add_special_tokens=special_tokens).to(model.device)
    ids = model.generate(
        input_ids=asked.input_ids,
        attention_mask=asked.attention_mask,
        max_new_tokens=LONGEST_ANSWER,
        do_sample=False,
        eos_token_id=end_tokens(model, tokenizer),
        pad_token_id=PADDING,
    )
    return str(tokenizer.decode(ids[0, asked.input_ids.shape[1] :], skip_special_tokens=True)).strip()
