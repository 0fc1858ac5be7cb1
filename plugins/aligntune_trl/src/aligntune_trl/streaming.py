"""An answer as it is generated: the model runs in a thread of its own, the pieces of text come out here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from aligntune_core import ConfigError, Sampling
from aligntune_trl.generate import cut_questions, drawn, most_tokens, seeded
from aligntune_trl.tokenizer import positions

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
    form: dict[str, Any] = {"special_tokens": opened.special_tokens, "longest": opened.longest}
    ids = cut_questions(tokenizer, [text], **form)
    _check_room(model, len(ids[0]))
    (most,) = most_tokens(model.config, [len(ids[0])], sampling)
    batch = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(model.device)
    pieces, stop, failed = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True), _Stop(), []

    def work() -> None:
        try:
            # autocast and the state of gradients are a thread's own
            with torch.no_grad(), opened.computing(mixed=opened.mixed), seeded(sampling):
                criteria = StoppingCriteriaList([stop])
                model.generate(**batch, **drawn(tokenizer, sampling, most), streamer=pieces, stopping_criteria=criteria)
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
    most = None if model.config.is_encoder_decoder else positions(model.config)
    if most and length >= most:
        problem = f"the conversation has {length} tokens, and the model has {most} positions"
        raise ConfigError(problem, "begin a new one: /reset")
