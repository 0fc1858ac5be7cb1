"""What a model is asked, as tokens: cut as in training, and with room for an answer behind it."""

from __future__ import annotations

from typing import Any

from aligntune_core import ConfigError
from aligntune_trl.tokenizer import positions, without_bos


def own_tokens(tokenizer: Any) -> tuple[int, int]:
    """How many tokens a tokenizer puts before a text, and after it."""
    mask: list[int] = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    words = [at for at, special in enumerate(mask) if not special]
    return (words[0], len(mask) - 1 - words[-1]) if words else (len(mask), 0)


def cut_left(tokenizer: Any, ids: list[int], longest: int | None, *, special_tokens: bool) -> list[int]:
    """The end of a question, which is what it asks, after the tokens that begin every text.

    Args:
        longest: tokens at most; None: it is not cut.
        special_tokens: the tokenizer has added its own.
    """
    if longest is None or len(ids) <= longest:
        return ids
    begins = ids[:1] in ([tokenizer.bos_token_id], [tokenizer.cls_token_id])
    kept = ids[: own_tokens(tokenizer)[0] if special_tokens else int(begins)][:longest]
    return kept + ids[len(ids) - longest + len(kept) :]


def asked(tokenizer: Any, text: str, *, special_tokens: bool) -> list[int]:
    """The tokens of a question, uncut.

    Args:
        special_tokens: add the tokenizer's own (verbatim text); a rendered conversation has them already.
    """
    text = without_bos(tokenizer, text) if special_tokens else text
    ids: list[int] = tokenizer(text, add_special_tokens=special_tokens, verbose=False).input_ids
    return ids


def room(config: Any, length: int) -> int | None:
    """How many tokens an answer may have after a question of `length` tokens; None: any number.

    Raises:
        ConfigError: it has no room, or the encoder cannot read the question.
    """
    most = positions(config, "decoder")
    if config.is_encoder_decoder:
        read = positions(config, "encoder")
        if read and length > read:
            raise _too_long(f"the longest question has {length:,} tokens, and the model reads {read:,} at most")
        return most - 1 if most else None  # the decoder begins with a token of its own
    if most and length >= most:
        problem = (
            f"the longest question has {length:,} tokens, and the model has {most:,} positions for it and its answer"
        )
        raise _too_long(problem)
    return most - length if most else None


def _too_long(problem: str) -> ConfigError:
    return ConfigError(problem, "shorten it", field="inputs")
