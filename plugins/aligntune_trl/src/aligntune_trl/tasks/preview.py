"""Rows of SFT's other tasks as a model sees them, by its tokenizer and its config alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from transformers import AutoConfig

from aligntune_core import ConfigError, Labels, RowPreview, RowTokens, TrainRequest
from aligntune_core.config import SftConfig
from aligntune_core.errors import gist
from aligntune_trl.tasks.exchanges import Exchanges, check_settings, end_of
from aligntune_trl.tasks.texts import Texts
from aligntune_trl.tasks.words import Words
from aligntune_trl.tokenise import IGNORED, Tokeniser
from aligntune_trl.tokenizer import longest_read

Rows = Sequence[Mapping[str, Any]]
Shower = Callable[[Rows], list[RowPreview]]


def read_of(request: TrainRequest, tokenizer: Any) -> dict[str, Any]:
    """What a `Preview` is to say of rows of these tasks: how much of them is read, and what ends an answer."""
    if request.config.rows != "answers":
        return {}
    if request.row_format in ("labelled", "tagged"):
        return {"longest": _longest(request, tokenizer)}
    if request.model_type == "causal_lm":
        return {}
    return {"longest": _longest(request, tokenizer), "ends": frozenset({end_of(tokenizer)} - {None})}


def _longest(request: TrainRequest, tokenizer: Any) -> int:
    """Tokens that the model reads; see `longest_read`."""
    return longest_read(request.config, _config_of(request), tokenizer)


def _config_of(request: TrainRequest) -> Any:
    """The model's config: the open model's, or from its files.

    Raises:
        ConfigError: it cannot be read.
    """
    if request.model is not None:
        return request.model.config
    settings, name = request.config, str(request.config.model_name)
    adapter = Path(name).expanduser() / "adapter_config.json"
    options: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code, "revision": settings.revision}
    try:
        base = json.loads(adapter.read_text("utf-8"))["base_model_name_or_path"] if adapter.exists() else name
        return AutoConfig.from_pretrained(base, **options)
    except (OSError, ValueError, KeyError) as error:
        problem = f"its config cannot be read: {gist(error)}"
        raise ConfigError(problem, "give a whole model", field="model_name", value=name) from error


def labelled(request: TrainRequest, tokenizer: Any) -> Shower:
    """Texts, of which no token is trained, with their labels."""
    labels = cast("Labels", request.labels)
    texts = Texts(tokenizer, labels, _longest(request, tokenizer))

    def rows(given: Rows) -> list[RowPreview]:
        return [
            RowPreview(
                parts={"row": RowTokens(tokens.input_ids, tokens.labels)},
                label=_said(tokens.label, labels),
                cut=texts.is_cut(row["text"], tokens.input_ids),
                left_out=not texts.read(row["text"], tokens.input_ids),
            )
            for tokens, row in zip(texts.preview(given), given, strict=True)
        ]

    return rows


def _said(label: Any, labels: Labels) -> str:
    """What a text is labelled with, in words."""
    if isinstance(label, list):
        return ", ".join(labels.names[number] for number in label) or "none of them"
    return labels.names[label] if labels.names else f"{label:g}"


def tagged(request: TrainRequest, tokenizer: Any) -> Shower:
    """Words, each with its label at its first token."""
    labels, longest = cast("Labels", request.labels), _longest(request, tokenizer)
    words = Words(tokenizer, longest)

    def said(word: str, label: int) -> str:
        return word if label == IGNORED else f"{word}={labels.names[label]}"

    def rows(given: Rows) -> list[RowPreview]:
        whole = words.whole([row["tokens"] for row in given])
        return [
            RowPreview(
                parts={"row": RowTokens(tokens.input_ids, tokens.labels)},
                label=" ".join(map(said, row["tokens"], row["labels"])),
                cut=len(ids) > longest,
                left_out=not tokens.read,
            )
            for tokens, ids, row in zip(words.preview(given), whole, given, strict=True)
        ]

    return rows


def exchanges(request: TrainRequest, tokenizer: Any) -> Shower:
    """Each answer of a row after what the encoder reads for it."""
    check_settings(cast("SftConfig", request.config))
    longest = _longest(request, tokenizer)
    found = Exchanges(Tokeniser(tokenizer, offsets=False), longest)

    def rows(given: Rows) -> list[RowPreview]:
        lengths = [max(max(len(pair.asked), len(pair.said)) for pair in found.tokens(row)) for row in given]
        return [
            RowPreview(parts={"row": RowTokens(tokens.input_ids, tokens.labels)}, cut=length > longest)
            for tokens, length in zip(found.preview(given), lengths, strict=True)
        ]

    return rows
