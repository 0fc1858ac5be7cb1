"""Answering: greedy generation in batches, ended where training taught the model to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

LONGEST_ANSWER = 256
BATCH = 8


def end_ids(tokenizer: Any) -> list[int]:
    """The tokens that end an answer: the end of sequence, and the mark that the chat template writes after a turn."""
    found = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    if tokenizer.chat_template:
        turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        tail = str(tokenizer.apply_chat_template(turn, tokenize=False)).rpartition("b")[2]
        special = set(tokenizer.all_special_ids)
        found += [i for i in tokenizer(tail, add_special_tokens=False).input_ids if i in special]
    return sorted(set(found))


def answer(model: Any, tokenizer: Any, texts: Sequence[str], *, special_tokens: bool) -> list[str]:
    """The continuation of each text, greedy, at most `LONGEST_ANSWER` tokens.

    Args:
        special_tokens: add the tokenizer's own (verbatim text); a rendered conversation has them already.
    """
    was_training = model.training
    model.eval()
    side, tokenizer.padding_side = tokenizer.padding_side, "left"
    answers: list[str] = []
    try:
        for start in range(0, len(texts), BATCH):
            batch = tokenizer(
                list(texts[start : start + BATCH]), return_tensors="pt", padding=True, add_special_tokens=special_tokens
            ).to(model.device)
            batch.pop("token_type_ids", None)
            with torch.no_grad():
                ids = model.generate(
                    **batch,
                    max_new_tokens=LONGEST_ANSWER,
                    do_sample=False,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    use_cache=True,
                    pad_token_id=tokenizer.pad_token_id,
                    eos_token_id=end_ids(tokenizer) or None,
                )
            new = ids[:, batch["input_ids"].shape[1] :]
            answers += [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
    finally:
        tokenizer.padding_side = side
        model.train(was_training)
    return answers
