"""Loading the tokenizer and the model: which precision, which quantisation, which adapter."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from aligntune_core import BackendUnavailableError, ConfigError, Environment
from aligntune_core.config import TrainingConfig
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from aligntune_trl.tokenise import PLAIN_TEMPLATE

log = logging.getLogger("aligntune")

LARGE = 1_000_000_000
"""Parameters above which gradient checkpointing is on by default on a GPU."""


def use_one_gpu(environment: Environment) -> None:
    """On a machine with several GPUs and no launcher, take the first and say so."""
    if len(environment.gpus) < 2 or environment.world_size > 1 or torch.cuda.is_initialized():
        return
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"
    os.environ["CUDA_VISIBLE_DEVICES"] = listed
    log.warning("one of %d GPUs is used: number %s; for more, start with torchrun", len(environment.gpus), listed)


def precision_of(config: TrainingConfig) -> str:
    """bf16, fp16 or fp32.

    Raises:
        ConfigError: the device cannot compute in the one that was asked for.
    """
    gpu = torch.cuda.is_available()
    if config.precision == "auto":
        if not gpu:
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if config.precision == "bf16" and gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        name = torch.cuda.get_device_name()
        raise ConfigError(f"{name} has no bf16", "set precision: fp16 or fp32", field="precision", value="bf16")
    return config.precision


def weights_dtype(config: TrainingConfig, precision: str) -> torch.dtype:
    """fp32 for full fine-tuning; the frozen base of an adapter has the precision of the computation."""
    if not config.use_peft:
        return torch.float32
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]


def quantisation(config: TrainingConfig, precision: str) -> BitsAndBytesConfig | None:
    """NF4 with double quantisation (arXiv:2305.14314) or LLM.int8 (arXiv:2208.07339), or None."""
    if config.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    if config.load_in_4bit:
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=weights_dtype(config, precision),
        )
    return None


def _template_text(given: str) -> str:
    if "{{" in given or "{%" in given:
        return given
    path = Path(given).expanduser()
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        remedy = "give a Jinja template, or the path of a .jinja file"
        raise ConfigError(f"cannot be read: {error}", remedy, field="chat_template", value=given) from error


def load_tokenizer(config: TrainingConfig, name: str) -> Any:
    """The tokenizer, with a pad token and a chat template: its own, the given one, or the plain format."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=config.revision, trust_remote_code=config.trust_remote_code
        )
    except (OSError, ValueError) as error:
        text = str(error).strip().split("\n")[0]
        raise ConfigError(f"its tokenizer cannot be loaded: {text}", "give a whole model", field="model_name", value=name) from error
    if tokenizer.eos_token is None:
        log.warning("the tokenizer has no end-of-sequence token: the model will not learn to stop")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if config.chat_template:
        tokenizer.chat_template = _template_text(config.chat_template)
    elif not tokenizer.chat_template:
        begins = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id] and tokenizer.bos_token_id is not None
        tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + PLAIN_TEMPLATE
        log.info("the tokenizer has no chat template: conversations are written as Question and Answer")
    return tokenizer


def _adapter(folder: str, options: dict[str, Any], config: TrainingConfig) -> Any:
    """An adapter folder: its base, and the adapter on it, ready to be trained on."""
    from peft import PeftConfig

    base = PeftConfig.from_pretrained(folder).base_model_name_or_path
    model = AutoModelForCausalLM.from_pretrained(base, **options)
    if config.use_peft is False:
        remedy = "set use_peft: true, or merge the adapter first"
        raise ConfigError("model_name is an adapter", remedy, field="use_peft", value=False)
    return PeftModel.from_pretrained(model, folder, is_trainable=True)


def load_model(config: TrainingConfig, precision: str) -> Any:
    """The model on its device.

    Raises:
        ConfigError: it cannot be loaded; the cause is the library's.
        BackendUnavailableError: a library that the settings ask for is missing.
    """
    name = str(config.model_name)
    options: dict[str, Any] = {
        "revision": config.revision,
        "dtype": weights_dtype(config, precision),
        "trust_remote_code": config.trust_remote_code,
        "use_safetensors": True,
    }
    if config.attn_implementation:
        options["attn_implementation"] = config.attn_implementation
    if (quantised := quantisation(config, precision)) is not None:
        options |= {"quantization_config": quantised, "device_map": {"": 0 if torch.cuda.is_available() else "cpu"}}
    try:
        if (Path(name).expanduser() / "adapter_config.json").exists():
            return _adapter(name, options, config)
        return AutoModelForCausalLM.from_pretrained(name, **options)
    except ImportError as error:
        field = "attn_implementation" if config.attn_implementation else "model_name"
        text = str(error).strip().split("\n")[0]
        raise BackendUnavailableError(text, "install what is named", field=field) from error
    except (OSError, ValueError, RuntimeError) as error:
        text = str(error).strip().split("\n")[0][:160]
        raise ConfigError(f"cannot be loaded: {text}", "give a whole model of a known kind", field="model_name", value=name) from error


def lora_config(config: TrainingConfig, model: Any) -> LoraConfig | None:
    """The adapter to add, or None: for full fine-tuning, and for a model that has one already.

    Raises:
        ConfigError: a target names no layer of the model.
    """
    if not config.use_peft or isinstance(model, PeftModel):
        return None
    targets = config.lora_target_modules
    if targets != "all-linear":
        layers = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
        if missing := sorted(set(targets) - layers):
            remedy = f"its linear layers are {', '.join(sorted(layers))}"
            raise ConfigError(f"the model has no layer {missing[0]}", remedy, field="lora_target_modules", value=targets)
        targets = list(targets)
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )


def checkpoints_gradients(config: TrainingConfig, model: Any) -> bool:
    """The setting, or: on for models above 1 B parameters on a GPU."""
    if config.gradient_checkpointing is not None:
        return config.gradient_checkpointing
    return torch.cuda.is_available() and model.num_parameters() > LARGE
