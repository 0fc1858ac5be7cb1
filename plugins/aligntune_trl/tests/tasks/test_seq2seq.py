"""Models with an encoder and a decoder: questions are read, answers learnt, measured, saved and read again."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree

import pytest
from aligntune_trl.tasks.metrics import of_answers
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, ByT5Tokenizer

from aligntune_core import AlignTuneError, ConfigError, Sampling
from aligntune_core.cli.main import run
from aligntune_core.runs.metrics import read
from aligntune_core.saved.find import find_saved
from aligntune_core.saved.opening import open_saved

from ..marks import heavy
from .conftest import ROWS


@pytest.mark.parametrize("kind", ["seq2seq", heavy("bart"), "encoder_decoder"])
def test_each_kind_learns_to_answer_and_is_read_again_by_transformers(translate, kind):
    trainer = translate(kind)
    model = trainer.train().model_path
    assert trainer.evaluate()["eval_exact_match"] == 1.0
    assert trainer.predict(["Spell map: "]) == ["map"]
    loaded, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    ids = loaded.generate(**tokenizer("Spell map: ", return_tensors="pt"), max_new_tokens=8, do_sample=False)
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == "map"


def test_conversations_give_an_exchange_for_each_answer(translate, caplog):
    chat = [
        {"role": "user", "content": "Spell map"}, {"role": "assistant", "content": "map"},
        {"role": "user", "content": "And salt"}, {"role": "assistant", "content": "salt"},
    ]  # fmt: skip
    with caplog.at_level("INFO", "aligntune"):
        trainer = translate(train_dataset=[{"messages": chat}] * 4, eval_dataset=None, max_steps=1)
    assert "dataset_name: 8 answers in 4 rows" in caplog.text
    tokenizer = trainer.native.processing_class
    first, second = (trainer.native.train_dataset[number] for number in (0, 1))
    assert tokenizer.decode(first["input_ids"]) == "<|user|>Spell map<|end|><|assistant|>"
    assert tokenizer.decode(second["input_ids"]).startswith(
        "<|user|>Spell map<|end|><|assistant|>map<|end|><|user|>And"
    )
    assert tokenizer.decode(second["labels"]) == "salt<|end|>"


@pytest.mark.heavy
def test_an_adapter_of_both_halves_learns(translate):
    trainer = translate(use_peft=True, learning_rate=2e-2)
    before = trainer.evaluate()["eval_loss"]
    assert (trainer.train().model_path / "adapter_model.safetensors").exists()
    assert trainer.evaluate()["eval_loss"] < before / 2


def test_how_the_batch_is_cut_changes_neither_training_nor_evaluation(translate, tmp_path):
    """Answers of different lengths: a mean of means over batches would differ."""
    rows = [row | {"completion": " ".join([row["completion"]] * (1 + n % 4))} for n, row in enumerate(ROWS)]
    found = []
    for batch, accumulation in ((8, 1), (2, 4)):
        trainer = translate(
            train_dataset=rows, eval_dataset=rows[:5], batch_size=batch, eval_batch_size=batch, max_steps=3,
            gradient_accumulation_steps=accumulation, output_dir=str(tmp_path / f"{batch}"), optimizer="sgd",
            logging_steps=1,
        )  # fmt: skip
        trainer.train()
        losses = [row["loss"] for row in read(trainer.run_dir / "metrics.jsonl") if row["split"] == "train"]
        found.append((losses, trainer.evaluate()["eval_loss"]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)


def test_rows_of_plain_text_are_refused_with_the_models_that_can(translate):
    with pytest.raises(AlignTuneError, match=r"does not train a seq2seq model for text_generation"):
        translate(train_dataset=[{"text": "a b c"}] * 4, eval_dataset=None)


def test_answers_are_compared_as_texts():
    found = of_answers(["a b c d e", "x"], ["a b c d e", "y"])
    assert found["exact_match"] == 0.5
    assert found["bleu"] < 100
    assert of_answers(["a b c d e"], ["a b c d e"]) == {"exact_match": 1.0, "bleu": pytest.approx(100), "chrf": 100.0}


def read_by_the_encoder(trainer):
    """The tokens of each batch that the model's encoder is going to read."""
    found = []
    keep = lambda module, given, named: found.append(named["input_ids"])  # noqa: E731
    trainer.native.model.get_encoder().register_forward_pre_hook(keep, with_kwargs=True)
    return found


def test_padding_stands_after_a_question_as_in_training(translate):
    """BART counts places: the first word of a shorter question stands at the first place too."""
    trainer = translate("bart", eval_dataset=None, max_steps=1)
    found, pad = read_by_the_encoder(trainer), trainer.native.processing_class.pad_token_id
    trainer.predict(["Spell map: ", "Spell map and then salt and then moss: "])
    short = found[0][0].tolist()
    assert short[0] != pad
    assert short[-1] == pad


def test_a_conversation_is_asked_in_the_form_in_which_it_was_trained(translate, model_of, tmp_path):
    """The tokenizer ends texts itself, as T5's does."""
    model, tokenizer = tmp_path / "ends", AutoTokenizer.from_pretrained(model_of("seq2seq"))
    copytree(model_of("seq2seq"), model)
    end = (tokenizer.eos_token, tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A <|end|>", special_tokens=[end])
    tokenizer.save_pretrained(model)
    chat = [{"role": "user", "content": "Spell map"}, {"role": "assistant", "content": "map"}]
    rows = [{"messages": chat}] * 4
    trainer = translate(model_name=str(model), train_dataset=rows, eval_dataset=None, max_steps=1)
    asked = read_by_the_encoder(trainer)
    trainer.predict([chat[:1]])
    assert asked[0].tolist() == [trainer.native.train_dataset[0]["input_ids"]]
    assert asked[0][0, -1] == tokenizer.eos_token_id


def test_answers_that_call_tools_are_refused(translate):
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    with pytest.raises(AlignTuneError, match="an answer calls tools, which a decoder of its own cannot learn"):
        translate(train_dataset=[{"messages": [{"role": "user", "content": "Hi"}, call]}] * 4, eval_dataset=None)


def test_more_than_the_tokenizer_advises_is_read_where_places_are_relative(translate, model_of, tmp_path):
    """T5 has no places that could run out; what its tokenizer says holds where the user says nothing."""
    model, tokenizer = tmp_path / "advised", AutoTokenizer.from_pretrained(model_of("seq2seq"))
    copytree(model_of("seq2seq"), model)
    tokenizer.model_max_length = 16
    tokenizer.save_pretrained(model)
    rows = [{"prompt": "Spell map " * 20, "completion": "map"}] * 4
    for asked, there in (({}, 16), ({"max_seq_length": 600}, len(tokenizer(rows[0]["prompt"]).input_ids))):
        trainer = translate(model_name=str(model), train_dataset=rows, eval_dataset=None, max_steps=1, **asked)
        assert len(trainer.native.train_dataset[0]["input_ids"]) == there


def test_a_tokenizer_of_bytes_is_enough_for_questions_and_answers(translate, model_of, tmp_path, monkeypatch):
    """ByT5's cannot say where in a text a token stands, and nothing here asks it."""
    model = tmp_path / "bytes"
    copytree(model_of("seq2seq"), model)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (model / name).unlink()
    ByT5Tokenizer().save_pretrained(model)
    monkeypatch.chdir(tmp_path)
    chat = [{"role": "user", "content": "Spell map"}, {"role": "assistant", "content": "map"}]
    rows = [{"messages": chat}] * 4
    trainer = translate(model_name=str(model), train_dataset=rows, eval_dataset=None, max_steps=1)
    trainer.train()
    assert len(trainer.predict([chat[:1]])) == 1
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert run(["preview", f"--model-name={model}", "--dataset-name=rows.jsonl", "--backend=trl"]) == 0


@pytest.mark.parametrize(
    ("option", "value"), [("label_smoothing_factor", 0.1), ("generation_max_length", 3), ("sortish_sampler", True)]
)
def test_options_that_our_loss_or_our_answers_replace_are_refused(translate, option, value):
    with pytest.raises(ConfigError, match=rf"backend_options = {value}: '{option}' is decided by the task"):
        translate(max_steps=1, backend_options={option: value})


def test_beams_of_an_evaluation_are_honoured(translate):
    trainer = translate(max_steps=1, backend_options={"generation_num_beams": 2})
    asked, generate = [], trainer.native.model.generate
    trainer.native.model.generate = lambda **given: asked.append(given["num_beams"]) or generate(**given)
    trainer.evaluate()
    assert set(asked) == {2}


LONG = "Listen. " * 40


def test_of_a_conversation_that_is_too_long_the_end_is_read(translate, caplog):
    """The question stands at the end; it is asked in the same form, from a saved model too."""
    rows = [{"messages": [{"role": "user", "content": c}, {"role": "assistant", "content": "map"}]} for c in
            ("Spell map", f"{LONG}Spell map", f"{LONG}Now spell map")]  # fmt: skip
    trainer = translate(train_dataset=rows, eval_dataset=None, max_steps=1, max_seq_length=24)
    assert "2 of 3 questions are longer than 24 tokens, and only their ends are read: rows 2, 3" in caplog.text
    ids, tokenizer = trainer.native.train_dataset["input_ids"], trainer.native.processing_class
    assert len(ids[1]) == 24
    assert tokenizer.decode(ids[1]).endswith("Spell map<|end|><|assistant|>")
    asked = read_by_the_encoder(trainer)
    expected = trainer.predict([rows[1]["messages"][:1]])
    assert asked[0].tolist() == [ids[1]]
    trainer.train()
    expected = trainer.predict([rows[1]["messages"][:1]])
    again = open_saved(find_saved(str(trainer.run_dir)))
    assert again.predict([rows[1]["messages"][:1]], Sampling()) == expected
    assert "".join(again.stream(rows[1]["messages"][:1], Sampling())).strip() == expected[0]


@pytest.mark.parametrize("kind", ["bart", heavy("encoder_decoder")])
def test_a_question_that_is_longer_than_the_model_reads_is_asked_as_it_was_trained(translate, kind):
    rows = [{"prompt": f"{LONG * 9}Spell map: ", "completion": "map"}] * 4
    trainer = translate(kind, train_dataset=rows, eval_dataset=None, max_steps=1)
    (ids,) = {tuple(ids) for ids in trainer.native.train_dataset["input_ids"]}
    asked = read_by_the_encoder(trainer)
    trainer.predict([rows[0]["prompt"]])
    assert asked[0].tolist() == [list(ids)]
    assert trainer.native.processing_class.decode(ids).endswith("Spell map: ")


def test_the_tokens_around_a_question_stay_when_it_is_cut(translate, model_of, tmp_path):
    model, tokenizer = tmp_path / "around", AutoTokenizer.from_pretrained(model_of("seq2seq"))
    copytree(model_of("seq2seq"), model)
    marks = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<|user|>", "<|end|>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|user|> $A <|end|>", special_tokens=marks)
    tokenizer.save_pretrained(model)
    rows = [{"prompt": f"{LONG}Spell map: ", "completion": "map"}] * 4
    trainer = translate(model_name=str(model), train_dataset=rows, eval_dataset=None, max_steps=1, max_seq_length=16)
    ids = trainer.native.train_dataset[0]["input_ids"]
    assert len(ids) == 16
    assert [ids[0], ids[-1]] == [number for _, number in marks]
    assert "Spell map:" in tokenizer.decode(ids)


@pytest.mark.parametrize("longest", [1, 2])
def test_questions_of_which_no_word_is_left_are_refused(translate, longest):
    rows = [{"messages": [{"role": "user", "content": "Spell map"}, {"role": "assistant", "content": "map"}]}] * 4
    with pytest.raises(AlignTuneError, match=rf"max_seq_length = {longest}: no question has a word left within"):
        translate(train_dataset=rows, eval_dataset=None, max_steps=1, max_seq_length=longest)
