"""Tiny untrained models for `aligntune demo` and for tests: deterministic, offline, made in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

VOCABULARY = 1024
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


def _tokenizer() -> Any:
    """A byte-level BPE tokenizer over the demo's own questions and answers: it can write any text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from aligntune_core.demo import rows

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    texts = [row[column] for row in rows() for column in ("instruction", "output")]
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=_SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    pad, end = _SPECIAL[:2]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token=pad, pad_token=pad, eos_token=end)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def write_tiny_model(model_type: str, path: Path) -> bool:
    """Write a two-layer model with its tokenizer to `path`; False for a type that this backend has none of.

    A classification model has one label: it is a reward model that has learnt nothing.
    """
    if model_type not in ("causal_lm", "classification"):
        return False
    from aligntune_trl.quiet import hush, hush_handlers

    hush()
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

    hush_handlers()
    tokenizer = _tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = (Qwen2ForCausalLM if model_type == "causal_lm" else Qwen2ForSequenceClassification)(config)
    model.save_pretrained(path, safe_serialization=True)
    tokenizer.save_pretrained(path)
    return True
