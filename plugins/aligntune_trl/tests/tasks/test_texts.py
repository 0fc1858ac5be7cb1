"""Texts with a label of which nothing is read, or less than was asked for."""

from __future__ import annotations

import pytest
from transformers import CanineConfig, CanineModel, CanineTokenizer

from aligntune_core import ConfigError, DataError, Sampling
from aligntune_core.saved.find import find_saved
from aligntune_core.saved.opening import open_saved

from .conftest import rows_of


def emptied(count, kind="single"):
    return [row | {"text": ""} if at < count else row for at, row in enumerate(rows_of(kind)[:20])]


@pytest.mark.parametrize("which", ["encoder", "roberta"])
def test_rows_without_text_are_left_out_by_number(label, request, caplog, which):
    """The one tokenizer puts tokens around a text, the other gives none for an empty one."""
    model, rows = str(request.getfixturevalue(which)), emptied(2)
    rows[4] |= {"text": " \n"}
    with caplog.at_level("INFO", "aligntune"):
        trainer = label(model_name=model, train_dataset=rows, eval_dataset=rows, max_steps=1)
    for field in ("dataset_name", "eval_dataset_name"):
        assert f"{field}: 3 of 20 rows are left out, they have no text: rows 1, 2, 5" in caplog.text
    assert "dataset_name: 3 of 20 rows have no text: rows 1, 2, 5" in caplog.text
    assert len(trainer.native.train_dataset) == 17
    assert trainer.train().model_path.exists()


def test_what_has_no_token_at_all_is_not_asked(label):
    trainer = label(eval_dataset=None, max_steps=1)
    with pytest.raises(ConfigError, match=r"inputs = '': a text has no token to label; pass texts with words"):
        trainer.predict(["red", ""])


def test_rows_of_which_none_has_text_are_refused_in_their_own_words(label):
    with pytest.raises(DataError, match=r"11 of 20 rows have no text; give rows with a text"):
        label(train_dataset=emptied(11), eval_dataset=None, max_steps=1)


@pytest.mark.parametrize("kind", ["single", "tokens"])
def test_a_length_at_which_nothing_of_a_row_is_read_is_refused(label, roberta, kind):
    with pytest.raises(
        ConfigError, match=r"max_seq_length = 2: the tokenizer puts 2 tokens around .*max_seq_length: 3"
    ):
        label(kind, model_name=str(roberta), eval_dataset=None, max_steps=1, max_seq_length=2)


def test_a_model_that_counts_places_after_the_padding_reads_fewer(label, roberta, caplog):
    """RoBERTa's first place is number 2: of 34 it can use 32."""
    rows = rows_of("single")[:20]
    rows[0]["text"] = "red " * 90
    with caplog.at_level("INFO", "aligntune"):
        trainer = label(model_name=str(roberta), train_dataset=rows, eval_dataset=None, max_steps=1)
    assert "dataset_name: 1 of 20 rows are cut at 32 tokens" in caplog.text
    assert trainer.predict([rows[0]["text"]])
    with pytest.raises(ConfigError, match=r"max_seq_length = 33: the model reads 32 tokens at most"):
        label(model_name=str(roberta), train_dataset=rows, eval_dataset=None, max_steps=1, max_seq_length=33)


def test_nothing_is_said_or_saved_of_conversations(label, roberta, caplog):
    with caplog.at_level("INFO", "aligntune"):
        trainer = label(model_name=str(roberta), eval_dataset=None, max_steps=1)
    assert "Question and Answer" not in caplog.text
    assert not (trainer.train().model_path / "chat_template.jinja").exists()


@pytest.mark.heavy
def test_a_model_that_reads_characters_labels_too(label, tmp_path):
    """CANINE has no table of tokens and no tokenizer.json."""
    model = tmp_path / "characters"
    CanineTokenizer().save_pretrained(model)
    config = CanineConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=256,
        num_hash_functions=2, num_hash_buckets=64, local_transformer_stride=8, downsampling_rate=4,
    )  # fmt: skip
    CanineModel(config).save_pretrained(model)
    trainer = label(model_name=str(model), eval_dataset=None, max_steps=1)
    texts = [row["text"] for row in rows_of("single")[:3]]
    assert trainer.train().model_path.exists()
    assert open_saved(find_saved(str(trainer.run_dir))).predict(texts, Sampling()) == trainer.predict(texts)
