"""A saved model that labels, or that has an encoder and a decoder, is opened: it says what its trainer said."""

from __future__ import annotations

import json

import pytest
from aligntune_trl.tasks.texts import Texts

from aligntune_core import ConfigError, Sampling
from aligntune_core.cli.main import run
from aligntune_core.saved.find import find_saved
from aligntune_core.saved.opening import open_saved

from ..marks import heavy
from .conftest import rows_of

TEXTS = ["red cat green blue dog cow", "cat", "blue red " * 9]
QUESTIONS = ["Spell map: ", "Spell violin: "]
CHAT = [
    {"messages": [{"role": "user", "content": f"Spell {w}"}, {"role": "assistant", "content": w}]}
    for w in ("map", "salt", "moss", "bread")
]


def opened(name):
    return open_saved(find_saved(str(name)))


def generated(capsys, *arguments):
    capsys.readouterr()
    assert run(["generate", *map(str, arguments), "--json"]) == 0
    return [pair["answer"] for pair in json.loads(capsys.readouterr().out)["answers"]]


SETTINGS = [
    pytest.param({}, id="full"),
    pytest.param({"use_peft": True}, id="lora"),
    heavy({"precision": "bf16"}, id="bf16"),
]


def alike(said, rel=1e-6):
    """The same labels; values but for rounding."""
    return pytest.approx(said, rel=rel) if isinstance(said[0], float) else said


@pytest.mark.parametrize("kind", ["single", heavy("multi"), "regression", "tokens"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_model_that_labels_says_what_its_trainer_says(label, capsys, kind, settings):
    trainer = label(kind, eval_dataset=None, max_steps=8, max_seq_length=12, **settings)
    trainer.train()
    assert generated(capsys, trainer.run_dir, *TEXTS) == alike(trainer.predict(TEXTS))


@pytest.mark.parametrize("kind", ["single", heavy("regression"), "tokens"])
@pytest.mark.parametrize("adapted", [False, True], ids=["full", "lora"])
def test_what_is_exported_of_it_says_the_same_without_its_run(label, capsys, tmp_path, kind, adapted):
    """And nothing is said of a new head: the adapter brings its own."""
    trainer = label(kind, eval_dataset=None, max_steps=8, use_peft=adapted)
    trainer.train()
    for name, flags in (("as it is", []), ("merged", ["--merge"])):
        folder = tmp_path / name
        assert run(["export", str(trainer.run_dir), "--output", str(folder), *flags]) == 0
        assert "new head" not in capsys.readouterr().err
        found = generated(capsys, folder, *TEXTS)
        assert found == (
            pytest.approx(trainer.predict(TEXTS), rel=1e-4) if kind == "regression" else trainer.predict(TEXTS)
        )


@pytest.mark.parametrize("kind", ["seq2seq", heavy("bart"), "encoder_decoder"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_model_with_an_encoder_answers_as_its_trainer(translate, capsys, kind, settings):
    trainer = translate(kind, eval_dataset=None, max_steps=12, **settings)
    before = trainer.predict(QUESTIONS)
    trainer.train()
    expected = trainer.predict(QUESTIONS)
    assert expected != before
    assert generated(capsys, trainer.run_dir, *QUESTIONS) == expected


@pytest.mark.parametrize("kind", ["seq2seq", heavy("bart"), heavy("encoder_decoder")])
def test_its_adapter_is_merged_into_both_halves(translate, capsys, tmp_path, kind):
    trainer = translate(kind, eval_dataset=None, max_steps=12, use_peft=True, learning_rate=2e-2)
    trainer.train()
    folder = tmp_path / "merged"
    assert run(["export", str(trainer.run_dir), "--merge", "--output", str(folder)]) == 0
    assert (folder / "model.safetensors").exists()
    asked = [[{"role": "user", "content": question}] for question in QUESTIONS]
    tokenizer = opened(trainer.run_dir)._model.tokenizer
    assert tokenizer.chat_template
    assert opened(folder).predict(asked, Sampling()) == [generated(capsys, folder, q)[0] for q in QUESTIONS]


def test_a_conversation_with_it_is_answered_and_streamed(translate):
    trainer = translate(train_dataset=CHAT, eval_dataset=None, max_steps=8)
    trainer.train()
    asked = [{"role": "user", "content": "Spell map"}]
    model = opened(trainer.run_dir)
    (expected,) = trainer.predict([asked])
    assert model.predict([asked], Sampling()) == [expected]
    assert "".join(model.stream(asked, Sampling())).strip() == expected


def test_what_labels_draws_nothing_and_holds_no_conversation(label):
    trainer = label(eval_dataset=None, max_steps=1)
    trainer.train()
    with pytest.raises(ConfigError) as refused:
        opened(trainer.run_dir).predict(TEXTS, Sampling(max_tokens=5, temperature=1.0))
    assert str(refused.value).splitlines() == [
        "max_tokens = 5: a model that labels draws nothing; leave it out",
        "temperature = 1.0: a model that labels draws nothing; leave it out",
    ]
    with pytest.raises(ConfigError, match="is a list; pass texts"):
        opened(trainer.run_dir).predict([[{"role": "user", "content": "red"}]], Sampling())


def test_a_model_that_only_guesses_words_is_refused(encoder, capsys):
    assert run(["generate", str(encoder), "red"]) == 2
    assert "it guesses masked words, and neither answers nor labels; train it first" in capsys.readouterr().err


def test_longer_texts_are_cut_as_in_training(label):
    trainer = label("single", eval_dataset=None, max_steps=2, max_seq_length=12)
    trainer.train()
    model = opened(trainer.run_dir)._model
    assert model.longest == 12
    assert [len(ids) for ids in Texts(model.tokenizer, model.labels, model.longest).ids(TEXTS)][2] == 12
    assert len(rows_of("single")[0]["text"].split()) == 6
