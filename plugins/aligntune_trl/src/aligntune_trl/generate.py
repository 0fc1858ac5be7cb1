"""Answering: generation in batches, greedy or drawn, ended where training taught the model to end."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch

from aligntune_core import ConfigError, Sampling
from aligntune_core.errors import Problem, numbered
from aligntune_trl.questions import asked, cut_left, room
from aligntune_trl.tokenizer import turn_ends

log = logging.getLogger("aligntune")

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


def conversation(item: Any, system: str | None) -> list[Any]:
    """What is asked as messages, after the system prompt where it brings none."""
    messages = [{"role": "user", "content": item}] if isinstance(item, str) else list(item)
    if system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    return messages


def verbatim(item: Any) -> str:
    """What is asked as text.

    Raises:
        ConfigError: messages, where the rows have none.
    """
    if not isinstance(item, str):
        remedy = "pass text; the rows that were trained are plain text"
        raise ConfigError(f"is a {type(item).__name__}", remedy, field="inputs")
    return item


def drawn(tokenizer: Any, sampling: Sampling, most: int) -> dict[str, Any]:
    """The arguments of `generate` that say how an answer of `most` tokens is drawn."""
    greedy: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    draws = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    return {
        **(draws if sampling.temperature else greedy),
        "max_new_tokens": most,
        "use_cache": True,
        "pad_token_id": tokenizer.pad_token_id,
    }


def refuse_drawing(sampling: Sampling, problem: str) -> None:
    """Refuse what says how an answer is drawn, where none is.

    Raises:
        ConfigError: names each that was given.
    """
    given = {f.name: value for f in fields(sampling) if (value := getattr(sampling, f.name)) != f.default}
    if given:
        raise ConfigError([Problem.of(name, problem, "leave it out", value=value) for name, value in given.items()])


@contextlib.contextmanager
def seeded(sampling: Sampling) -> Iterator[None]:
    """Draw with the seed, and leave the process's own draws as they were."""
    if not sampling.temperature or sampling.seed is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(sampling.seed)
        yield


def most_tokens(config: Any, lengths: Sequence[int], sampling: Sampling) -> list[int]:
    """How many tokens the answers to questions of these lengths may have; told where that is less than asked for.

    Raises:
        ConfigError: a question leaves no room.
    """
    if lengths:
        room(config, max(lengths))  # it is the longest that is refused
    rooms = [room(config, length) for length in lengths]
    wanted = sampling.max_tokens or LONGEST_ANSWER
    least = min((left for left in rooms if left is not None), default=wanted)
    if sampling.max_tokens and least < wanted:
        log.warning("an answer may have %d tokens, and not %d: the model has no more positions", least, wanted)
    return [wanted if left is None else min(wanted, left) for left in rooms]


def _batches(most: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Questions whose answers may have as many tokens, by their numbers: none is cut short for the sake of another."""
    for limit, group in itertools.groupby(range(len(most)), key=lambda number: most[number]):
        numbers = list(group)
        for start in range(0, len(numbers), BATCH):
            yield limit, numbers[start : start + BATCH]


def cut_questions(
    tokenizer: Any, texts: Sequence[str], *, special_tokens: bool, longest: int | None
) -> list[list[int]]:
    """The tokens of questions, cut where the model was trained on cut ones; see `answer`."""
    whole = [asked(tokenizer, text, special_tokens=special_tokens) for text in texts]
    if longest is not None and (cut := [number for number, ids in enumerate(whole, 1) if len(ids) > longest]):
        text = "%d of %d questions are longer than %d tokens, and only their ends are read: %s"
        log.warning(text, len(cut), len(whole), longest, numbered(cut, "question"))
    return [cut_left(tokenizer, ids, longest, special_tokens=special_tokens) for ids in whole]


def answer(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    special_tokens: bool,
    sampling: Sampling = Sampling(),  # noqa: B008
    longest: int | None = None,
) -> list[str]:
    """The continuation of each text.

    Args:
        special_tokens: add the tokenizer's own (verbatim text); a rendered conversation has them already.
        longest: tokens of a question at most; of a longer one the end is read, which is told. None: none is cut.

    Raises:
        ConfigError: one is longer than the model reads, or leaves no room for an answer.
    """
    was_training, encodes = model.training, model.config.is_encoder_decoder
    model.eval()
    side = tokenizer.padding_side
    tokenizer.padding_side = "right" if encodes else "left"  # a decoder goes on where the text ends
    answers: list[str] = []
    questions = cut_questions(tokenizer, texts, special_tokens=special_tokens, longest=longest)
    most = most_tokens(model.config, [len(ids) for ids in questions], sampling)
    with contextlib.ExitStack() as stack:
        stack.callback(model.train, was_training)
        stack.callback(setattr, tokenizer, "padding_side", side)
        stack.enter_context(seeded(sampling))
        for limit, numbers in _batches(most):
            together = {"input_ids": [questions[number] for number in numbers]}
            batch = tokenizer.pad(together, return_tensors="pt").to(model.device)
            with torch.no_grad():
                ids = model.generate(**batch, **drawn(tokenizer, sampling, limit))
            # A decoder goes on from the question; beside an encoder it begins with its own first token.
            new = ids if encodes else ids[:, batch["input_ids"].shape[1] :]
            answers += [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
    return answers
