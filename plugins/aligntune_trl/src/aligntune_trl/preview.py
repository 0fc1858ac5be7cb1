"""Rows as the model sees them, by its tokenizer alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from tokenizers.decoders import DecodeStream

from aligntune_core import Preview, RowPreview, RowTokens, TrainRequest
from aligntune_core.config import DpoConfig, RewardModelConfig, SftConfig
from aligntune_trl.pairs import Pair, PairTokeniser
from aligntune_trl.prompts import PromptTokeniser
from aligntune_trl.quiet import hush_handlers
from aligntune_trl.tasks.preview import exchanges, labelled, read_of, tagged
from aligntune_trl.tokenise import IGNORED, Tokeniser
from aligntune_trl.tokenizer import open_tokenizer, special_tokens, tokenizer_name, turn_ends

Shower = Callable[[Sequence[Mapping[str, Any]]], list[RowPreview]]


def preview_of(request: TrainRequest) -> Preview:
    """What shows the rows of a request.

    Raises:
        ConfigError: the tokenizer or its template cannot be used.
    """
    hush_handlers()
    name = tokenizer_name(request.config, request.model)
    tokenizer, template = open_tokenizer(request.config, name, request.row_format)
    eos = {tokenizer.eos_token_id} - {None}
    preview = Preview(
        rows=_shower(request)(request, tokenizer),
        texts=partial(texts, tokenizer),
        special=frozenset(special_tokens(tokenizer).values()),
        ends=turn_ends(tokenizer) | eos if request.chat else frozenset(eos),
        bos=tokenizer.bos_token_id,
        template=template if request.chat else "",
    )
    return replace(preview, **read_of(request, tokenizer))


def texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text of each token in a row; a character of several tokens stands at the last of them."""
    special = {number: text for text, number in special_tokens(tokenizer).items()}
    if not tokenizer.is_fast:
        return [special.get(token, tokenizer.decode([token])) for token in ids]
    stream, core = DecodeStream(skip_special_tokens=False), tokenizer.backend_tokenizer
    steps = [(token, stream.step(core, token)) for token in ids]
    return [special.get(token, text or "") for token, text in steps]


def _shower(request: TrainRequest) -> Callable[[TrainRequest, Any], Shower]:
    """What shows rows of this kind."""
    if request.config.rows != "answers":
        return _pairs if request.config.rows == "preferences" else _prompts
    if request.row_format in ("labelled", "tagged"):
        return labelled if request.row_format == "labelled" else tagged
    return _answers if request.model_type == "causal_lm" else exchanges


def _answers(request: TrainRequest, tokenizer: Any) -> Shower:
    config = cast("SftConfig", request.config)
    tokeniser = Tokeniser(tokenizer, answers_only=config.assistant_only_loss is not False)
    longest = config.max_seq_length

    def rows(given: Sequence[Mapping[str, Any]]) -> list[RowPreview]:
        shown = []
        for whole in tokeniser(given):
            tokens = whole.cut(longest)
            parts = {"row": RowTokens(tokens.input_ids, tokens.labels)}
            shown.append(RowPreview(parts=parts, cut=len(whole.input_ids) > longest, left_out=not tokens.trained))
        return shown

    return rows


def _pairs(request: TrainRequest, tokenizer: Any) -> Shower:
    """Pairs are cut; those of a reward model are left out instead, for a score is read off at an answer's end."""
    longest = cast("DpoConfig | RewardModelConfig", request.config).max_seq_length
    tokeniser, scores = PairTokeniser(tokenizer), request.algorithm == "reward"

    def shown(whole: Pair) -> RowPreview:
        long = whole.length > longest
        pair = whole if scores else whole.cut(longest)
        before = [IGNORED] * len(pair.prompt_ids)
        parts = {
            name: RowTokens([*pair.prompt_ids, *answer], [*before, *answer])
            for name, answer in (("chosen", pair.chosen_ids), ("rejected", pair.rejected_ids))
        }
        return RowPreview(parts=parts, cut=long and not scores, left_out=long if scores else not pair.whole)

    return lambda given: [shown(pair) for pair in tokeniser(given)]


def _prompts(request: TrainRequest, tokenizer: Any) -> Shower:
    tokeniser = PromptTokeniser(tokenizer)

    def rows(given: Sequence[Mapping[str, Any]]) -> list[RowPreview]:
        return [RowPreview(parts={"prompt": RowTokens(t.input_ids, t.labels)}) for t in tokeniser(given)]

    return rows
