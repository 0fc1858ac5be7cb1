"""Saving a model so that it loads again: written aside, checked, then put in place."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors import SafetensorError, safe_open

from aligntune_core import StorageError

TRAINED = "default"
"""PEFT's name for the adapter that is trained."""
LABELLING = ("SEQ_CLS", "TOKEN_CLS")
"""PEFT's names of models that label texts, and words."""


def _check_loads(folder: Path, trust_remote_code: bool) -> None:
    """Open every tensor file, the config and the tokenizer as a later user will.

    Raises:
        StorageError: something is missing or broken.
    """
    from peft import PeftConfig
    from transformers import AutoConfig, AutoTokenizer

    try:
        weights = sorted(folder.glob("*.safetensors"))
        tensors = 0
        for path in weights:
            with safe_open(path, framework="pt") as file:
                tensors += len([file.get_slice(name).get_shape() for name in file.keys()])  # noqa: SIM118 - no mapping
        if not tensors:
            raise OSError("no tensors were written")
        if (folder / "adapter_config.json").exists():
            PeftConfig.from_pretrained(folder)
        else:
            AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, SafetensorError) as error:
        remedy = "free space and save again"
        raise StorageError(
            f"the saved model does not load: {error}", remedy, field="output_dir", value=str(folder)
        ) from error


def _forget_last_batch(tokenizer: Any) -> None:
    """A fast tokenizer saves how it padded and cut last, and one that is loaded pads on that side."""
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        backend.no_padding()
        backend.no_truncation()


def save_model(model: Any, tokenizer: Any, path: Path, *, trust_remote_code: bool) -> None:
    """Write model and tokenizer to `path`, replacing what is there only once the new one is whole.

    Core refuses a path that holds something else than a saved model.

    Raises:
        StorageError: it cannot be written, or does not load; what was there before is intact.
    """
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        # An adapter that was trained on has a frozen copy beside it, TRL's reference, which is no part of the model.
        only = {"selected_adapters": [TRAINED]} if isinstance(model, PeftModel) else {}
        model.save_pretrained(part, safe_serialization=True, **only)
        if isinstance(model, PeftModel) and model.active_peft_config.task_type in LABELLING:
            _save_config(model.get_base_model(), part)
        _forget_last_batch(tokenizer)
        tokenizer.save_pretrained(part)
        _check_loads(part, trust_remote_code)
        if path.exists():
            shutil.rmtree(path)
        part.replace(path)
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, StorageError):
            raise
        remedy = "free space or choose another folder"
        raise StorageError(
            f"the model cannot be written: {error}", remedy, field="output_dir", value=str(path)
        ) from error


def _save_config(headed: Any, part: Path) -> None:
    """The config of a model with a head, beside the adapter, which does not say what its labels are."""
    config = copy.deepcopy(headed.config)
    config.architectures = [type(headed).__name__]  # its base may have had another head
    config.save_pretrained(part)
