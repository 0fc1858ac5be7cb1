"""The tokenizer: loading it, its chat template, and the tokens that begin and end what a model reads."""

from __future__ import annotations

import logging
from typing import Any, Literal

from transformers import AutoTokenizer

from aligntune_core import ConfigError
from aligntune_core.config import TrainingConfig
from aligntune_core.config.template import MARKS, PLAIN, TEMPLATES, template_text
from aligntune_core.errors import gist

log = logging.getLogger("aligntune")


def own_tokenizer(name: str, revision: str | None, *, trust_remote_code: bool) -> Any:
    """The tokenizer that comes with a model.

    Raises:
        ConfigError: there is none, or it is broken.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        problem = f"its tokenizer cannot be loaded: {gist(error)}"
        raise ConfigError(problem, "give a whole model", field="model_name", value=name) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what the library makes up where there are no files
        problem = "it comes without a tokenizer"
        raise ConfigError(problem, "copy the tokenizer's files into its folder", field="model_name", value=name)
    return tokenizer


def tokenizer_name(config: TrainingConfig, model: Any) -> str:
    """Where the tokenizer of the named or of the open model is from.

    Raises:
        ConfigError: an open model does not say it.
    """
    name = config.model_name or getattr(getattr(model, "config", None), "_name_or_path", "")
    if not name:
        remedy = "give the model's folder or hub name too, for its tokenizer"
        raise ConfigError("is missing beside an open model", remedy, field="model_name")
    return str(name)


def load_tokenizer(config: TrainingConfig, name: str, row_format: str = "messages") -> Any:
    """The tokenizer, with a pad token and a chat template: its own, the given one, or the plain format.

    Args:
        config: the settings.
        name: where it is from.
        row_format: of the rows; those with labels need no template.
    """
    return open_tokenizer(config, name, row_format)[0]


def open_tokenizer(config: TrainingConfig, name: str, row_format: str = "messages") -> tuple[Any, str]:
    """The tokenizer as `load_tokenizer` gives it, and where its template is from, as `Preview.template` says it.

    Raises:
        ConfigError: it cannot be loaded, or the template is none that it can write.
    """
    tokenizer = own_tokenizer(name, config.revision, trust_remote_code=config.trust_remote_code)
    if row_format in ("labelled", "tagged"):
        return _labelling(tokenizer), "tokenizer" if tokenizer.chat_template else ""
    if tokenizer.eos_token is None:
        log.warning("the tokenizer has no end-of-sequence token: the model will not learn to stop")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        text = "the tokenizer has no padding token: %s is used, and still trained where it ends an answer"
        log.info(text, tokenizer.pad_token)
    if config.chat_template:
        tokenizer.chat_template = _given(config.chat_template, tokenizer)
        return tokenizer, "chat_template"
    if tokenizer.chat_template:
        return tokenizer, "tokenizer"
    tokenizer.chat_template = _begun(PLAIN, tokenizer)
    if row_format.endswith("messages"):
        log.info("the tokenizer has no chat template: conversations are written as Question and Answer")
    return tokenizer, "plain"


def _labelling(tokenizer: Any) -> Any:
    """The tokenizer of a model that labels, which ends nothing and holds no conversation."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        log.info("the tokenizer has no padding token: %s is used", tokenizer.pad_token)
    return tokenizer


def _given(given: str, tokenizer: Any) -> str:
    """The template of the setting; one with a name begins as the tokenizer begins a text.

    Raises:
        ConfigError: the tokenizer has not the tokens that it is made of.
    """
    if given not in TEMPLATES:
        return template_text(given)
    if missing := [mark for mark in MARKS[given] if mark not in tokenizer.get_vocab()]:
        problem = f"the tokenizer has no token {missing[0]}"
        raise ConfigError(problem, "set chat_template: plain", field="chat_template", value=given)
    return _begun(TEMPLATES[given], tokenizer)


def _begun(template: str, tokenizer: Any) -> str:
    """A template that writes the token that begins a sequence, where the tokenizer does so with text."""
    return ("{{ bos_token }}" if begins(tokenizer) else "") + template


def begins(tokenizer: Any) -> bool:
    """Whether the tokenizer itself puts a token before text that begins a sequence."""
    return tokenizer.bos_token_id is not None and tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]


def without_bos(tokenizer: Any, text: str) -> str:
    """A text without the token that the tokenizer is going to put before it."""
    if tokenizer.bos_token and text.startswith(tokenizer.bos_token) and begins(tokenizer):
        return text.removeprefix(tokenizer.bos_token)
    return text


_AFTER_PADDING = frozenset(
    {
        "camembert", "clap_text_model", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke",
        "markuplm", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
    }
)  # fmt: skip
"""Kinds of models whose first position is numbered after the padding token, so that those before it are never used."""


def positions(config: Any, *halves: Literal["encoder", "decoder"]) -> int | None:
    """How many tokens a model has positions for; None: as many as you like, or not known.

    Args:
        config: the model's.
        halves: that are asked of; none named: both, and the fewer count.
    """
    found = (_positions(config, half) for half in halves or ("encoder", "decoder"))
    return min((most for most in found if most is not None), default=None)


def _positions(config: Any, half: str) -> int | None:
    own: Any = getattr(config, half, None)  # of two models put together
    own = own.get_text_config() if hasattr(own, "get_text_config") else config.get_text_config()
    most = getattr(own, f"max_{half}_position_embeddings", None) or getattr(own, "max_position_embeddings", None)  # LED
    if not most or most < 0:
        return None
    if own.model_type in _AFTER_PADDING:
        padding = 1 if own.model_type == "mpnet" else own.pad_token_id
        return int(most - 1 - (padding or 0))
    return int(most)


def most_read(config: Any, tokenizer: Any) -> int | None:
    """The longest sequence in tokens that a model reads, by its config and its tokenizer; None: not known."""
    limits = (positions(config), tokenizer.model_max_length)
    return min((int(limit) for limit in limits if limit), default=None)


def longest_read(settings: Any, config: Any, tokenizer: Any) -> int:
    """The longest sequence in tokens: `max_seq_length`, or what the model can read where that is only the default.

    What a tokenizer says of it is advice, and a model with relative positions reads more: a length that the user asks
    for stands, and the tokenizer then says it too, also where it is saved.

    Args:
        settings: those of the run.
        config: the model's.
        tokenizer: the model's.

    Raises:
        ConfigError: the user asked for more than the model has positions for.
    """
    longest: int = settings.max_seq_length
    if "max_seq_length" not in settings.model_fields_set:
        return min(longest, most_read(config, tokenizer) or longest)
    most = positions(config)
    if most is not None and longest > most:
        problem, remedy = f"the model reads {most} tokens at most", f"set max_seq_length: {most}"
        raise ConfigError(problem, remedy, field="max_seq_length", value=longest)
    tokenizer.model_max_length = max(tokenizer.model_max_length, longest)
    return longest


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """The tokens that are no text: how each is written → its number."""
    return {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special}


def turn_ends(tokenizer: Any) -> frozenset[int]:
    """The special tokens that the chat template writes after an answer; none where it cannot write a plain one."""
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        tail = str(tokenizer.apply_chat_template(turn, tokenize=False)).rpartition("b")[2]
    except Exception:  # noqa: BLE001 - a template is a program, and may want other messages than these
        return frozenset()
    return frozenset(special_tokens(tokenizer).values()) & set(tokenizer(tail, add_special_tokens=False).input_ids)
