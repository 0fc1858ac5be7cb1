"""From shaped rows with a prompt to token ids: no token of them is trained, for the model answers itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aligntune_core import TrainRequest
from aligntune_trl.tokenise import IGNORED, Tokeniser, Tokens
from aligntune_trl.tokenizer import begins, without_bos

log = logging.getLogger("aligntune")


class PromptTokeniser:
    """Tokenises prompts as TRL does: conversations up to where the answer begins, texts as they stand."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokeniser = Tokeniser(tokenizer)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[Tokens]:
        prompts = [row["prompt"] for row in rows]
        chat = not isinstance(prompts[0], str)
        texts = [self._tokeniser.render(prompt, ask=True) for prompt in prompts] if chat else prompts
        ids, _ = self._tokeniser.encode(texts, chat=chat)
        return [Tokens(each, [IGNORED] * len(each)) for each in ids]


def mended(request: TrainRequest, tokenizer: Any) -> TrainRequest:
    """The request with prompts that the tokenizer begins once: TRL gives them to it as they stand in the rows."""
    if request.chat or not begins(tokenizer):
        return request
    parts = {name: _mended(getattr(request, name), tokenizer) for name in ("train_rows", "eval_rows")}
    if any(rows is not getattr(request, name) for name, rows in parts.items()):
        log.warning("rows begin with %s, which the tokenizer adds too: it is taken away", tokenizer.bos_token)
    return replace(request, **parts)


def _mended(rows: Any, tokenizer: Any) -> Any:
    if rows is None or not any(prompt.startswith(tokenizer.bos_token) for prompt in rows["prompt"]):
        return rows
    return rows.map(lambda row: {"prompt": without_bos(tokenizer, row["prompt"])}, load_from_cache_file=False)
