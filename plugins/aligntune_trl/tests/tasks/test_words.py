"""Words with labels: byte-level tokenizers, spans of any notation, words that the model does not read."""

from __future__ import annotations

import pytest
import torch
from aligntune_trl.tasks.metrics import of_words
from aligntune_trl.tasks.words import Words
from transformers import AutoModelForTokenClassification, AutoTokenizer

from aligntune_core import Labels, Sampling
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


SPANS = {
    "BIO": ("B-P", "I-P", "I-P", "B-P"),
    "BIOES": ("B-P", "I-P", "E-P", "S-P"),
    "BILOU": ("B-P", "I-P", "L-P", "U-P"),
}


@pytest.mark.parametrize("notation", SPANS)
def test_spans_are_the_same_in_each_notation(notation):
    first, inner, last, alone = SPANS[notation]
    truth, said = [first, inner, last, "O", alone], [first, inner, last, "O", "O"]
    names = tuple(dict.fromkeys(truth))
    found = of_words(Labels("tokens", names), *([[names.index(tag) for tag in tags]] for tags in (said, truth)))
    assert (found["span_precision"], found["span_recall"]) == (1.0, 0.5)


def test_where_a_label_is_of_no_notation_a_run_ends_well_without_spans(label, caplog):
    rows = [{"tokens": ["Ada", "went", "home"], "labels": ["B-P", "O", "X"]}] * 8
    with caplog.at_level("INFO", "aligntune"):
        trainer = label("tokens", train_dataset=rows, eval_dataset=rows, max_steps=1)
    assert "spans are not measured: the label 'X' is none of BIO, BIOES or BILOU" in caplog.text
    trainer.train()
    assert {"eval_accuracy", "eval_f1_macro"} == {name for name in trainer.evaluate() if name[5:7] in ("ac", "f1")}
    assert not [name for name in trainer.evaluate() if "span" in name]


def test_words_that_are_not_read_are_wrong(label, caplog):
    """Beyond four tokens, and without any; however the rows are ordered."""
    rows = [*rows_of("tokens")[:24], {"tokens": ["extraordinary" * 9, "red"], "labels": ["O", "B-colour"]}]
    rows[3] = {"tokens": ["", " ", *["red", "cat"] * 4], "labels": ["O", "O", *["B-colour", "O"] * 4]}
    with caplog.at_level("INFO", "aligntune"):
        trainer = label("tokens", eval_dataset=rows, max_steps=4, max_seq_length=4, eval_batch_size=5,
                        backend_options={"train_sampling_strategy": "group_by_length"})  # fmt: skip
    assert "labels count as wrong" in caplog.text
    found, said = trainer.evaluate(), trainer.predict([row["tokens"] for row in rows])
    pairs = [pair for row, tags in zip(rows, said, strict=True) for pair in zip(row["labels"], tags, strict=True)]
    assert any(tag == "" for _, tag in pairs)
    assert found["eval_accuracy"] == pytest.approx(sum(wanted == tag for wanted, tag in pairs) / len(pairs))


def test_rows_without_words_are_left_out_by_number(label, caplog):
    rows = rows_of("tokens")[:8]
    rows[2], rows[5] = {"tokens": [], "labels": []}, {"tokens": ["", " "], "labels": ["O", "O"]}
    with caplog.at_level("INFO", "aligntune"):
        trainer = label("tokens", train_dataset=rows, eval_dataset=rows, max_steps=1)
    for field in ("dataset_name", "eval_dataset_name"):
        assert f"{field}: 2 of 8 rows are left out, they have no words to read: rows 3, 6" in caplog.text
    assert "dataset_name: 2 of 8 rows have no word with a label: rows 3, 6" in caplog.text
    assert len(trainer.native.train_dataset) == len(trainer.native.eval_dataset) == 6
    assert trainer.predict([[], ["", " "], ["red"]])[:2] == [[], ["", ""]]
