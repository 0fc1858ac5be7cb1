"""An answer as it is generated: the model runs in a thread of its own, the pieces of text come out here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from aligntune_core import ConfigError, Sampling
from aligntune_trl.generate import drawn, seeded
from aligntune_trl.tokenizer import without_bos

if TYPE_CHECKING:
    from aligntune_trl.opened import OpenedPolicy


class _Stop(StoppingCriteria):  # type: ignore[misc]  # transformers has no types
    """Ends the generation once nobody listens."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        return torch.full((input_ids.shape[0],), self.asked.is_set(), dtype=torch.bool, device=input_ids.device)


def stream(opened: OpenedPolicy, text: str, sampling: Sampling) -> Iterator[str]:
    """The answer to a rendered conversation, in pieces; closing the generator ends the generation.

    Raises:
        ConfigError: the conversation leaves no room for an answer.
    """
    model, tokenizer = opened.model, opened.tokenizer
    text = without_bos(tokenizer, text) if opened.special_tokens else text
    batch = tokenizer(text, return_tensors="pt", add_special_tokens=opened.special_tokens).to(model.device)
    batch.pop("token_type_ids", None)
    _check_room(model, batch["input_ids"].shape[1])
    pieces, stop, failed = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True), _Stop(), []

    def work() -> None:
        try:
            # autocast and the state of gradients are a thread's own
            with torch.no_grad(), opened.computing(mixed=opened.mixed), seeded(sampling):
                criteria = StoppingCriteriaList([stop])
                model.generate(**batch, **drawn(tokenizer, sampling), streamer=pieces, stopping_criteria=criteria)
        except BaseException as error:  # noqa: BLE001 - it is raised again where the pieces are read
            failed.append(error)
            pieces.end()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield from (piece for piece in pieces if piece)
    finally:
        stop.asked.set()
        thread.join()
    if failed:
        raise failed[0]


def _check_room(model: Any, length: int) -> None:
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions and length >= positions:
        problem = f"the conversation has {length} tokens, and the model has {positions} positions"
        raise ConfigError(problem, "begin a new one: /reset")
