"""What `aligntune preview` shows: the rows' tokens, made without the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from tokenizers.decoders import DecodeStream

from aligntune_core import Preview, RowPreview, RowTokens, TrainRequest
from aligntune_core.config import SftConfig
from aligntune_torch.model import load_tokenizer
from aligntune_torch.rows import tokenise


def preview_of(request: TrainRequest) -> Preview:
    """The tokens and labels are those that the trainer gets from the same function.

    Raises:
        ConfigError: the tokenizer cannot be used.
    """
    tokenizer, longest = load_tokenizer(request), cast("SftConfig", request.config).max_seq_length
    special = frozenset(number for number, token in tokenizer.added_tokens_decoder.items() if token.special)

    def shown(row: Mapping[str, Any]) -> RowPreview:
        whole, cut = tokenise(tokenizer, row, None), tokenise(tokenizer, row, longest)
        parts = {"row": RowTokens(cut.input_ids, cut.labels)}
        return RowPreview(parts=parts, cut=len(whole.input_ids) > longest, left_out=not cut.trained)

    def texts(ids: Sequence[int]) -> list[str]:
        stream, core = DecodeStream(skip_special_tokens=False), tokenizer.backend_tokenizer
        return [stream.step(core, number) or "" for number in ids]

    return Preview(
        rows=lambda rows: [shown(row) for row in rows],
        texts=texts,
        special=special,
        ends=special & {tokenizer.eos_token_id},
        bos=tokenizer.bos_token_id,
        template="tokenizer" if request.chat else "",
    )
