"""Tiny untrained models for `aligntune demo` and for tests: deterministic, offline, made in a second."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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


def _causal(tokenizer: Any, *, labels: bool) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

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
    return (Qwen2ForSequenceClassification if labels else Qwen2ForCausalLM)(config)


def _t5(tokenizer: Any) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=128,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    )


def _two_berts(tokenizer: Any) -> Any:
    from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel

    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": tokenizer.pad_token_id,
    }
    decoder = BertConfig(**shape, is_decoder=True, add_cross_attention=True)
    config = EncoderDecoderConfig.from_encoder_decoder_configs(BertConfig(**shape), decoder)
    config.decoder_start_token_id = config.pad_token_id = tokenizer.pad_token_id
    config.eos_token_id = tokenizer.eos_token_id
    return EncoderDecoderModel(config)


_MODELS: dict[str, Callable[[Any], Any]] = {
    "causal_lm": partial(_causal, labels=False),
    "classification": partial(_causal, labels=True),
    "seq2seq": _t5,
    "encoder_decoder": _two_berts,
}


def write_tiny_model(model_type: str, path: Path) -> bool:
    """Write a two-layer model with its tokenizer to `path`; False for a type that this backend has none of.

    A classification model has one label: it is a reward model that has learnt nothing.
    """
    if model_type not in _MODELS:
        return False
    from aligntune_trl.quiet import hush, hush_handlers

    hush()
    import torch

    hush_handlers()
    tokenizer = _tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _MODELS[model_type](tokenizer)
    model.save_pretrained(path, safe_serialization=True)
    tokenizer.save_pretrained(path)
    return True
