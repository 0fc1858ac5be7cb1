"""Loading the model: which precision, which quantisation, which adapter."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from aligntune_core import BackendUnavailableError, ConfigError, Environment
from aligntune_core.algorithms import did_you_mean
from aligntune_core.config import TrainingConfig
from aligntune_core.errors import gist

log = logging.getLogger("aligntune")

_ADAPTED = (torch.nn.Linear, torch.nn.Embedding, Conv1D)
"""The kinds of layers that may get an adapter."""
LARGE = 1_000_000_000
"""Parameters above which gradient checkpointing is on by default on a GPU."""


def use_one_gpu(environment: Environment) -> None:
    """On a machine with several GPUs and no launcher, take the first and say so."""
    if len(environment.gpus) < 2 or environment.world_size > 1 or torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
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


def _adapter(folder: str, options: dict[str, Any], auto: Any) -> Any:
    """An adapter folder: its base, and the adapter on it, ready to be trained on.

    Raises:
        ConfigError: a weight of the base or of the adapter is missing.
    """
    from peft import PeftConfig

    base = PeftConfig.from_pretrained(folder).base_model_name_or_path
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found missing adapter keys")  # that is an error, below
        model = PeftModel.from_pretrained(whole(base, options, auto), folder, is_trainable=True)
    check_adapter_whole(model, folder)
    return model


def check_adapter_whole(model: Any, folder: str) -> None:
    """Refuse an adapter of which weights are missing: the library makes them up.

    Raises:
        ConfigError: names one.
    """
    with safe_open(Path(folder).expanduser() / "adapter_model.safetensors", framework="pt") as file:
        if missing := sorted(set(get_peft_model_state_dict(model)) - set(file.keys())):
            raise lacks(folder, missing)


def lacks(name: str, missing: Sequence[str]) -> ConfigError:
    problem = f"{len(missing)} of its weights are in no file, such as {missing[0]}"
    return ConfigError(problem, "download or copy the model again", field="model_name", value=name)


def whole(name: str, options: Mapping[str, Any], auto: Any = AutoModelForCausalLM) -> Any:
    """The model, with every weight from its files: the library would make up what is missing, and only say so.

    Raises:
        ConfigError: a weight is missing.
    """
    model, found = auto.from_pretrained(name, output_loading_info=True, **options)
    if missing := sorted(found["missing_keys"]):
        raise lacks(name, missing)
    return model


def load_options(config: TrainingConfig, precision: str) -> dict[str, Any]:
    """How weights are read: where from, in which precision, with which attention, onto which device."""
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
    return options


def but_for(modules: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """How weights are read, where some modules are not quantised: those that are trained whole.

    Args:
        modules: their paths.
        options: of `load_options`, quantised.
    """
    quantised = copy.deepcopy(options["quantization_config"])
    quantised.llm_int8_skip_modules = list(modules)  # of 4 bit too, for all its name
    return {**options, "quantization_config": quantised}


def is_adapter(name: str) -> bool:
    """Whether a model's name is a local folder that holds an adapter."""
    return (Path(name).expanduser() / "adapter_config.json").exists()


def load_model(config: TrainingConfig, precision: str, auto: Any = AutoModelForCausalLM) -> Any:
    """The model on its device.

    Args:
        auto: transformers' class for its kind.

    Raises:
        ConfigError: it cannot be loaded; the cause is the library's.
        BackendUnavailableError: a library that the settings ask for is missing.
    """
    name = str(config.model_name)
    options = load_options(config, precision)
    with telling(config):
        return _adapter(name, options, auto) if is_adapter(name) else whole(name, options, auto)


@contextlib.contextmanager
def telling(config: TrainingConfig) -> Iterator[None]:
    """Tell what the libraries raise while a model is loaded in our words.

    Raises:
        ConfigError: it cannot be loaded; the cause is the library's.
        BackendUnavailableError: a library that the settings ask for is missing.
    """
    try:
        yield
    except ConfigError:
        raise
    except ImportError as error:
        raise _lacking(config, error) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise _unloadable(config, error) from error


def _lacking(config: TrainingConfig, error: ImportError) -> BackendUnavailableError:
    text = gist(str(error).rpartition("error: ")[2])
    if config.attn_implementation:
        remedy = "leave it out, or set attn_implementation: sdpa"
        value = config.attn_implementation
        return BackendUnavailableError(text, remedy, field="attn_implementation", value=value)
    return BackendUnavailableError(text, "install what is named", field="model_name", value=config.model_name)


_CAUSES = (
    (
        "does not recognize this architecture",
        "transformers does not know its model type",
        "pip install -U transformers",
    ),
    ("ignore_mismatched_sizes", "its weights do not fit its config.json", "download or copy the model again"),
)
"""What a message of transformers holds, what we say, and the remedy."""


def _unloadable(config: TrainingConfig, error: Exception) -> ConfigError:
    if config.attn_implementation and "attn_implementation" in str(error):
        remedy = "leave it out, or set sdpa or eager"
        value = config.attn_implementation
        return ConfigError("this model has no such attention", remedy, field="attn_implementation", value=value)
    return ConfigError(*unloadable(error), field="model_name", value=config.model_name)


def unloadable(error: Exception) -> tuple[str, str]:
    """What transformers' error means, and the remedy."""
    for part, problem, remedy in _CAUSES:
        if part in str(error):
            return problem, remedy
    return f"cannot be loaded: {gist(error)}", "give a whole model of a known kind"


def _check_targets(targets: Sequence[str], model: Any) -> None:
    """Refuse targets that PEFT would not find: it takes a layer's name, or the last parts of its path."""
    paths = [path for path, module in model.named_modules() if isinstance(module, _ADAPTED)]
    missing = [t for t in targets if not any(f".{path}".endswith(f".{t}") for path in paths)]
    if targets and not missing:
        return
    problem = f"the model has no layer {missing[0]}" if missing else "no layer is named"
    layers = {path.rpartition(".")[2] for path in paths}
    remedy = did_you_mean(missing[0] if missing else None, layers, "its layers are")
    raise ConfigError(problem, remedy, field="lora_target_modules", value=targets)


def lora_config(config: TrainingConfig, model: Any, task_type: str = "CAUSAL_LM") -> LoraConfig | None:
    """The adapter to add, or None: for full fine-tuning, and for a model that has one already.

    Raises:
        ConfigError: a target names no layer of the model.
    """
    if not config.use_peft or isinstance(model, PeftModel):
        return None
    targets: Any = config.lora_target_modules
    if targets != "all-linear":
        _check_targets(targets, model)
        targets = list(targets)
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets,
        bias="none",
        task_type=task_type,
    )


def check_lengths(model: Any, rows: Iterable[Sequence[int]]) -> None:
    """Refuse rows that are longer than the model has positions, or that hold tokens it has no embedding for.

    Raises:
        ConfigError: training would fail in a step, or train what the model cannot represent.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    rows = list(rows)
    longest = max(map(len, rows))
    if positions and longest > positions:
        problem = f"a row has {longest} tokens, and the model has {positions} positions"
        raise ConfigError(problem, f"set max_seq_length: {positions}", field="max_seq_length", value=longest)
    check_embeddings(model, rows)


def check_embeddings(model: Any, rows: Iterable[Sequence[int]]) -> None:
    """Refuse tokens that the model has no embedding for.

    Raises:
        ConfigError: the tokenizer is another model's.
    """
    largest = max(max(ids, default=0) for ids in rows)
    if largest >= model.get_input_embeddings().weight.shape[0]:
        problem = f"its tokenizer gives the token {largest}, for which the model has no embedding"
        remedy = "give the tokenizer that belongs to the model"
        raise ConfigError(problem, remedy, field="model_name", value=model.config._name_or_path)


def keep_trained_weights_fp32(model: Any) -> None:
    """Undo TRL's cast of the adapters on a quantised base to bf16, in which small updates would be lost."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()


def keep_quantised_weights_as_loaded(model: Any) -> None:
    """Keep bitsandbytes from packing 4-bit weights for inference on CPUs with AVX512-BF16.

    It does so in the first forward pass outside of training, an evaluation or a reference's, and never unpacks them:
    from then on no gradient passes through these layers, and training goes on as if all were well.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def checkpoints_gradients(config: TrainingConfig, model: Any) -> bool:
    """The setting, or: on for models above 1 B parameters on a GPU."""
    if config.gradient_checkpointing is not None:
        return config.gradient_checkpointing
    return torch.cuda.is_available() and model.num_parameters() > LARGE
