"""An adapter merged into its base: computed in float32, stored in another precision, and compared with the adapter.

What the written model computes is measured, not believed: it is read back from its files, and its logits on a few rows
of fixed tokens are compared with those of the base with its adapter. Both are computed in float32 on the CPU, so that
only the weights are compared. How much they may differ follows from the rounding alone:

A weight that is rounded to a precision of unit roundoff u changes by u/√3 of itself in the root mean square, and so
does what its layer gives, a sum of many independent terms. L layers in a row add up like a random walk: √L·u/√3 of
the logits' own size. In float32 the sums themselves round too: one of k terms, in another order, by √k·u₃₂. With a
factor 8 for what a layer may amplify:

    tolerance = 8 · √L · (u + √k·u₃₂)/√3 · max|logit|

That is generous in 16 bits, so what the adapter learnt could get lost in it: beside it the written model must be nearer
to the base with its adapter than the base alone is.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoConfig
from transformers.pytorch_utils import Conv1D

from aligntune_core import ConfigError, MergeReport
from aligntune_core.errors import gist
from aligntune_trl import loading

if TYPE_CHECKING:
    from aligntune_trl.opened import Opened

log = logging.getLogger("aligntune")

ROWS, LENGTH = 4, 32
"""How many rows of fixed tokens are compared, and their length."""
AMPLIFIED = 8.0
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def merge(opened: Opened, path: Path, dtype: str | None) -> MergeReport:
    """Write the model as a full one to `path`; see `OpenModel`.

    Raises:
        ConfigError: it computes something else than the model with its adapter, or the base cannot be dequantised.
    """
    name, options = opened.request.model, loading.load_options(opened.config.decided(attn_implementation=None), "fp32")
    with loading.telling(opened.config):
        model, note = _base_and_adapter(opened, name, options)
        kind = DTYPES[dtype] if dtype else _stored_dtype(opened, name)
    tokens = fixed_tokens(opened.tokenizer, model)
    wanted, effect = logits(model, tokens), _effect(model, tokens)
    adapted = isinstance(model, PeftModel)
    model = _merged(model, name)
    tolerance = tolerance_of(model, wanted, kind)
    model = model.to(kind)
    opened.complete(model)
    model.save_pretrained(path, safe_serialization=True)
    opened.tokenizer.save_pretrained(path)
    del model
    with loading.telling(opened.config):
        plain = {"dtype": torch.float32, "trust_remote_code": opened.config.trust_remote_code, "use_safetensors": True}
        difference = logits(opened.full(str(path), plain).eval(), tokens) - wanted
    _check(difference, effect if adapted else None, tolerance, kind)
    return MergeReport(
        dtype=str(kind).removeprefix("torch."),
        difference=_largest(difference),
        tolerance=tolerance,
        effect=_largest(effect),
        note=note,
    )


def _base_and_adapter(opened: Opened, name: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The model in float32, its base dequantised, and what is to be said of that."""
    if not loading.is_adapter(name):
        model, note = _dequantised(opened.full(name, options), name)
        return model.eval(), note
    base = str(PeftConfig.from_pretrained(name).base_model_name_or_path)
    model, note = _dequantised(opened.full(base, options), name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found missing adapter keys")  # that is an error, below
        warnings.filterwarnings("ignore", ".*tie_word_embeddings.*")  # that is what the comparison is for
        model = PeftModel.from_pretrained(model, name)
    loading.check_adapter_whole(model, name)
    return model.eval(), note


def _dequantised(model: Any, name: str) -> tuple[Any, str]:
    """The weights as numbers that an adapter can be added to: those that the quantised layers compute with.

    Raises:
        ConfigError: its kind of quantisation cannot be undone.
    """
    if getattr(model, "hf_quantizer", None) is None:
        return model.float(), ""
    method = str(model.config.quantization_config.quant_method).rpartition(".")[2].lower()
    try:
        model = model.dequantize(dtype=torch.float32)
    except (NotImplementedError, ValueError, RuntimeError, AttributeError) as error:
        problem = f"its base is quantised ({method}) and cannot be dequantised: {gist(error)}"
        remedy = "export the adapter without --merge"
        raise ConfigError(problem, remedy, field="model_name", value=name) from error
    return model.float().to("cpu"), "its base was loaded quantised, as in training, and is stored dequantised"


def _stored_dtype(opened: Opened, name: str) -> torch.dtype:
    """As the weights of the model, or of the adapter's base, are stored."""
    base, revision = name, None
    if loading.is_adapter(name):
        base, revision = str(PeftConfig.from_pretrained(name).base_model_name_or_path), opened.config.revision
    config = AutoConfig.from_pretrained(base, revision=revision, trust_remote_code=opened.config.trust_remote_code)
    return DTYPES.get(str(config.dtype).removeprefix("torch."), torch.float32)


def _merged(model: Any, name: str) -> Any:
    if not isinstance(model, PeftModel):
        return model
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*tie_word_embeddings.*")
            return model.merge_and_unload(safe_merge=True)
    except ValueError as error:  # it looks for weights that are not finite
        problem = f"its adapter cannot be merged: {gist(error)}"
        raise ConfigError(problem, "export the adapter without --merge", field="model_name", value=name) from error


def fixed_tokens(tokenizer: Any, model: Any) -> torch.Tensor:
    """Rows of tokens that are the same each time, none of them special."""
    size = min(len(tokenizer), model.get_input_embeddings().weight.shape[0])
    plain = torch.tensor([i for i in range(size) if i not in set(tokenizer.all_special_ids)])
    chosen = torch.randint(len(plain), (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    return plain[chosen]


def logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """What a model gives for rows of tokens, in float32."""
    given = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    if model.config.is_encoder_decoder:
        given["decoder_input_ids"] = tokens
    with torch.no_grad():
        found: torch.Tensor = model(**given).logits.float()
    return found


def _effect(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """What the adapter changes."""
    if not isinstance(model, PeftModel):
        return torch.zeros(1)
    with model.disable_adapter():
        without = logits(model, tokens)
    return logits(model, tokens) - without


def tolerance_of(model: Any, wanted: torch.Tensor, dtype: torch.dtype) -> float:
    """The largest difference of a logit that rounding the weights explains; see the top of this module."""
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Embedding | Conv1D)]
    terms = max(_terms(layer) for layer in layers)
    u, u32 = (torch.finfo(kind).eps / 2 for kind in (dtype, torch.float32))
    relative = math.sqrt(len(layers) / 3) * (u + math.sqrt(terms) * u32)
    return AMPLIFIED * relative * _largest(wanted)


def _terms(layer: Any) -> int:
    """How many products a layer sums up."""
    if isinstance(layer, torch.nn.Embedding):
        return 1
    return int(layer.weight.shape[0 if isinstance(layer, Conv1D) else 1])


def _rms(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


def _largest(values: torch.Tensor) -> float:
    return float(values.abs().max())


def _check(difference: torch.Tensor, effect: torch.Tensor | None, tolerance: float, dtype: torch.dtype) -> None:
    """Refuse a model that is another one, or from which rounding took what the adapter had learnt.

    Raises:
        ConfigError: with what was measured.
    """
    largest, stored = _largest(difference), str(dtype).removeprefix("torch.")
    if not largest <= tolerance:
        problem = f"the merged model's logits differ from the adapter's by up to {largest:.2g}; rounding to {stored}"
        remedy = "export the adapter without --merge"
        raise ConfigError(f"{problem} explains {tolerance:.2g}", remedy, field="merge", value=True)
    if dtype != torch.float32 and effect is not None and _rms(effect) and _rms(difference) >= _rms(effect):
        problem = f"rounding changes the logits by {_rms(difference):.2g} and the adapter only by {_rms(effect):.2g}"
        remedy = "give --dtype float32, or export the adapter without --merge"
        raise ConfigError(f"{problem} (root mean square)", remedy, field="dtype", value=stored)
