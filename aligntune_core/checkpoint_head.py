"""What a checkpoint is, read from its small files before any training library is imported."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aligntune_core.data.source import HUB_NAME, close_to, looks_like_path
from aligntune_core.errors import ConfigError
from aligntune_core.runs.folder import MODEL, RUN

_SUFFIXES = (
    ("ForSequenceClassification", "classification"),
    ("ForTokenClassification", "classification"),
    ("ForMaskedLM", "classification"),
    ("ForCausalLM", "causal_lm"),
    ("LMHeadModel", "causal_lm"),
    ("ForConditionalGeneration", "causal_lm"),
)

_BY_TOKEN = ("ForTokenClassification", "ForMaskedLM")

log = logging.getLogger("aligntune")

AGAIN = "download or copy the model again"


@dataclass(frozen=True, slots=True)
class CheckpointHead:
    """A checkpoint's kind. `base` is the model under an adapter, None for a full model.

    `labels` says how many numbers a classification model gives for a text, None where its config does not say; 0 for
    one that gives them for each token. `names` are those of its labels, by number, where it has named them.
    """

    model_type: str | None
    quantised: bool = False
    base: str | None = None
    labels: int | None = None
    names: tuple[str, ...] = ()


def _fail(name: object, problem: str, remedy: str) -> ConfigError:
    return ConfigError(problem, remedy, field="model_name", value=name)


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _fail(name, f"{path.name} cannot be read: {error}", AGAIN) from error
    if not isinstance(content, dict):
        raise _fail(name, f"{path.name} holds no object", AGAIN)
    return content


def _check_safetensors(path: Path, name: str) -> None:
    """The header says how long the file must be; a download that broke off is shorter."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start == b"version ":
            raise _fail(name, f"{path.name} is a git-lfs pointer, not the weights", "run git lfs pull in the folder")
        length = int.from_bytes(start, "little")
        try:
            header = json.loads(file.read(length)) if 0 < length <= min(size, 100_000_000) else None
            ends = [v["data_offsets"][1] for k, v in (header or {}).items() if k != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError):
            header = None
    expected = 8 + length + max(ends, default=0) if header is not None else None
    if expected != size:
        wanted = f"{expected:,} bytes are expected" if expected else "its header is broken"
        raise _fail(name, f"{path.name} has {size:,} bytes, {wanted}", AGAIN)


def _check_weights(folder: Path, name: str) -> None:
    index = folder / "model.safetensors.index.json"
    if index.exists():
        weight_map = _read_json(index, name).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
            raise _fail(name, f"{index.name} does not say which file holds which weight", AGAIN)
        files = set(weight_map.values())
        if outside := sorted(f for f in files if f != Path(f).name):
            raise _fail(name, f"its index names a file outside its folder: {outside[0]}", "do not use this model")
        if missing := sorted(f for f in files if not (folder / f).exists()):
            raise _fail(name, f"{missing[0]} is missing", AGAIN)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        problem = "its weights are pickled, which can run code when loaded" if pickled else "it has no weights"
        raise _fail(name, problem, "give a model in safetensors format")
    for path in weights:
        _check_safetensors(path, name)


def _kind(config: Mapping[str, Any], name: str) -> str:
    if not config.get("model_type"):
        raise _fail(name, "config.json has no model_type", "give a transformers model")
    if config["model_type"] == "encoder-decoder":
        return "encoder_decoder"
    if config.get("is_encoder_decoder"):
        return "seq2seq"
    architectures = config.get("architectures") or ["ForCausalLM"]
    if not isinstance(architectures, list):
        raise _fail(name, "architectures in config.json is no list", AGAIN)
    architecture = str(architectures[0])
    return next((kind for suffix, kind in _SUFFIXES if architecture.endswith(suffix)), "classification")


def _head(config: Mapping[str, Any], name: str, trust_remote_code: bool) -> CheckpointHead:
    if config.get("auto_map") and not trust_remote_code:
        remedy = "read the model's code first, then set trust_remote_code: true (--trust-remote-code)"
        raise _fail(name, "it runs its own Python code, and trust_remote_code is off", remedy)
    kind = _kind(config, name)
    labels = _labels(config) if kind == "classification" else None
    return CheckpointHead(kind, bool(config.get("quantization_config")), labels=labels, names=_names(config))


def _labels(config: Mapping[str, Any]) -> int | None:
    """How many numbers a classification model gives for a text."""
    if str((config.get("architectures") or [""])[0]).endswith(_BY_TOKEN):
        return 0
    named, count = config.get("id2label"), config.get("num_labels")
    return len(named) if isinstance(named, dict) else count if isinstance(count, int) else None


def _names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a model's labels; empty where it has none, or only those that the library makes up."""
    named = config.get("id2label")
    if not isinstance(named, dict) or not all(str(key).isdigit() for key in named):
        return ()
    names = tuple(str(named[key]) for key in sorted(named, key=int))
    return () if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names


def _under(base: str, name: str, trust_remote_code: bool) -> CheckpointHead:
    """The model under the adapter `name`; the user gave only the adapter, so an error is told of that."""
    if (Path(base).expanduser() / "adapter_config.json").exists():
        raise _fail(name, f"its base, {base}, is an adapter too", "merge that one into its own base first")
    try:
        return read_head(base, None, trust_remote_code=trust_remote_code)
    except ConfigError as error:
        raise _fail(name, f"its base, {base}: {error.problem}", error.remedy) from error


def _local(folder: Path, name: str, trust_remote_code: bool) -> CheckpointHead:
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        base = _read_json(adapter, name).get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise _fail(name, "adapter_config.json names no base model", "give an adapter that PEFT saved")
        _check_weights(folder, name)
        under = _under(base, name, trust_remote_code)
        headed = _read_json(adapter, name).get("task_type") in ("SEQ_CLS", "TOKEN_CLS")
        own = _read_json(folder / "config.json", name) if headed and (folder / "config.json").exists() else {}
        kind = "classification" if headed else under.model_type
        return CheckpointHead(kind, under.quantised, base, names=_names(own))
    if not (folder / "config.json").exists():
        if (folder / RUN).is_file():
            remedy = f"finish it: aligntune train --resume {name}"
            raise _fail(name, "this run has saved no model yet", remedy)
        raise _fail(name, "this folder has no config.json", "give a transformers model folder")
    head = _head(_read_json(folder / "config.json", name), name, trust_remote_code)
    _check_weights(folder, name)
    return head


def _from_hub(name: str, revision: str | None, trust_remote_code: bool) -> CheckpointHead:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError as error:
        raise _fail(
            name, "this folder does not exist, and a hub name needs huggingface_hub", "give a folder"
        ) from error
    try:
        with _one_line_of_retries(name):
            path = hf_hub_download(name, "config.json", revision=revision)
    except EntryNotFoundError as error:
        if "offline" not in str(error).lower() and "connect" not in str(error).lower():
            raise _fail(name, "this hub repository has no config.json", "give a transformers model") from error
        raise _unreachable(name) from error
    except Exception as error:  # every failure of the hub ends in the same advice, with its own cause
        raise _unreachable(name) from error
    return _head(_read_json(Path(path), name), name, trust_remote_code)


class _OneLine(logging.Filter):
    """In the place of all that the hub's library says while it tries again and again, one line of ours."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model, self._told = model, False

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        if not self._told:
            log.warning("there is no folder %s here, and the hub does not answer; it is asked again", self._model)
        self._told = True
        return False


@contextlib.contextmanager
def _one_line_of_retries(model: str) -> Iterator[None]:
    library, told = logging.getLogger("huggingface_hub.utils._http"), _OneLine(model)
    library.addFilter(told)
    try:
        yield
    finally:
        library.removeFilter(told)


def _unreachable(name: str) -> ConfigError:
    remedy = "check the spelling and the connection, or give a local folder"
    return _fail(name, "it is no local folder, not in the cache, and the hub did not give it", remedy)


def model_folder(model_name: str) -> str:
    """What a `model_name` loads: of a run folder the model in it, else the name itself."""
    folder = Path(model_name).expanduser()
    if (folder / RUN).is_file() and (folder / MODEL).is_dir() and not (folder / "config.json").exists():
        return str(folder / MODEL)
    return model_name


def model_folders(config: Any) -> dict[str, str]:
    """The settings that name a model, with what each loads."""
    named = {name: getattr(config, name, None) for name in ("model_name", "reward_model_name")}
    return {name: model_folder(value) for name, value in named.items() if value}


def kind_of_class(name: str, *, encodes: bool) -> str | None:
    """The model type of an open model, by the name of its class; None for one that says nothing.

    Args:
        encodes: its config says that it is an encoder with a decoder.
    """
    if encodes:
        return "encoder_decoder" if name == "EncoderDecoderModel" else "seq2seq"
    return next((kind for suffix, kind in _SUFFIXES if name.endswith(suffix)), None)


def read_head(model_name: str, revision: str | None, *, trust_remote_code: bool) -> CheckpointHead:
    """Look at a model's config and at the heads of its weights.

    Raises:
        ConfigError: no such folder or hub name, broken files, pickled weights, foreign code without consent.
    """
    folder = Path(model_folder(model_name)).expanduser()
    if folder.is_dir():
        return _local(folder, model_name, trust_remote_code)
    if folder.exists():
        raise _fail(model_name, "is a file", "give the folder that holds config.json")
    if looks_like_path(model_name):
        remedy = close_to(model_name) or "give an existing folder or a hub name"
        raise _fail(model_name, "this folder does not exist", remedy)
    if not HUB_NAME.match(model_name):
        raise _fail(model_name, "is neither a folder nor a hub name", "a hub name is 'name' or 'owner/name'")
    return _from_hub(model_name, revision, trust_remote_code)


def check_base(algorithm: str, head: CheckpointHead, name: str | None) -> None:
    """Refuse a model that a reward model cannot begin from: one with a head for something else than one score.

    Raises:
        ConfigError: it has such a head.
    """
    if algorithm == "reward" and head.labels not in (None, 1):
        what = f"gives {head.labels} numbers for a text" if head.labels else "gives numbers for each token"
        remedy = "give a causal model, or a reward model"
        raise ConfigError(f"it {what}, not one score", remedy, field="model_name", value=name)
