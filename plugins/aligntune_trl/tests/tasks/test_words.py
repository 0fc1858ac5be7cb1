"""Words with labels: byte-level tokenizers, spans of any notation, words that the model does not read."""

from __future__ import annotations

import pytest
import torch
from aligntune_trl.tasks.words import Words
from transformers import AutoModelForTokenClassification, AutoTokenizer

from aligntune_core import Sampling
from aligntune_core.saved.find import find_saved
from aligntune_core.saved.opening import open_saved

from .conftest import rows_of


def tagged_alone(model, rows):
    """What transformers says of each word, with the saved files alone."""
    tokenizer, tagger = AutoTokenizer.from_pretrained(model), AutoModelForTokenClassification.from_pretrained(model)
    said = []
    for words in rows:
        encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            best = tagger(**encoded).logits[0].argmax(-1).tolist()
        places = encoded.word_ids(0)
        said.append([tagger.config.id2label[best[places.index(word)]] for word in range(len(words))])
    return said


def test_a_saved_tagger_reads_words_as_its_trainer_did(label, roberta):
    trainer = label("tokens", model_name=str(roberta), eval_dataset=None, num_epochs=4)
    trainer.train()
    rows = [row["tokens"] for row in rows_of("tokens")[160:]]
    said = trainer.predict(rows)
    assert tagged_alone(trainer.run_dir / "model", rows) == said
    assert open_saved(find_saved(str(trainer.run_dir))).predict(rows, Sampling()) == said
    assert {"B-colour", "O"} == {tag for tags in said for tag in tags}


@pytest.mark.parametrize("which", ["roberta", "tiny", "encoder"])
def test_a_byte_level_tokenizer_reads_words_after_a_space_wherever_it_is_saved(request, tmp_path, which):
    """RoBERTa's, Qwen's and the general class: each is made again from other files."""
    tokenizer = AutoTokenizer.from_pretrained(request.getfixturevalue(which))
    expected = tokenizer(" red cat", add_special_tokens=False).input_ids
    words = ["red", "cat"]
    for _ in range(2):
        ids = Words(tokenizer, 64).encode([words])["input_ids"][0]
        assert [token for token in ids if token not in tokenizer.all_special_ids] == expected
        tokenizer.save_pretrained(tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        assert tokenizer(words, is_split_into_words=True).input_ids == ids
