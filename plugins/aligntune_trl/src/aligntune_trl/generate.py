"""Answering: greedy generation in batches, ended where training taught the model to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from aligntune_trl.tokenizer import turn_ends, without_bos

LONGEST_ANSWER = 256
"""Tokens of an answer at most."""
SAMPLED, LONGEST_SAMPLE = 2, 64
"""Questions that a finished run answers for its report, and the tokens of such an answer."""
BATCH = 8


def end_ids(model: Any, tokenizer: Any, *, chat: bool) -> list[int]:
    """The tokens that end an answer: the model's own, the end of sequence, and the end of a turn in the chat template.

    Args:
        chat: the rows are conversations; else the template is never used.
    """
    own = model.generation_config.eos_token_id
    found = {own} if isinstance(own, int) else set(own or ())
    if tokenizer.eos_token_id is not None:
        found.add(tokenizer.eos_token_id)
    if chat:
        found |= turn_ends(tokenizer)
    return sorted(found)


def question_of(row: Mapping[str, Any]) -> Any:
    """What a row asks: the messages before its last answer, its prompt, or the first words of its text."""
    if "prompt" in row:
        return row["prompt"]
    if "messages" in row:
        last = max(i for i, message in enumerate(row["messages"]) if message["role"] == "assistant")
        return row["messages"][:last]
    return " ".join(row["text"].split()[:8])


def shown(asked: Any) -> str:
    """A question as people read it: its last message, or the text."""
    return asked if isinstance(asked, str) else str(asked[-1]["content"])


def answer(
    model: Any, tokenizer: Any, texts: Sequence[str], *, special_tokens: bool, longest: int | None = None
) -> list[str]:
    """The continuation of each text, greedy.

    Args:
        longest: tokens at most; None: `LONGEST_ANSWER`.
        special_tokens: add the tokenizer's own (verbatim text); a rendered conversation has them already.
    """
    was_training = model.training
    model.eval()
    side, tokenizer.padding_side = tokenizer.padding_side, "left"
    answers: list[str] = []
    texts = [without_bos(tokenizer, text) for text in texts] if special_tokens else texts
    try:
        for start in range(0, len(texts), BATCH):
            batch = tokenizer(
                list(texts[start : start + BATCH]), return_tensors="pt", padding=True, add_special_tokens=special_tokens
            ).to(model.device)
            batch.pop("token_type_ids", None)
            with torch.no_grad():
                ids = model.generate(
                    **batch,
                    max_new_tokens=longest or LONGEST_ANSWER,
                    do_sample=False,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    use_cache=True,
                    pad_token_id=tokenizer.pad_token_id,
                )
            new = ids[:, batch["input_ids"].shape[1] :]
            answers += [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
    finally:
        tokenizer.padding_side = side
        model.train(was_training)
    return answers
