"""A saved model that is opened answers as the trainer of its run does, whatever the run was."""

from __future__ import annotations

import json
import threading

import pytest

from aligntune_core import ConfigError, Sampling
from aligntune_core.cli.main import run
from aligntune_core.demo import rows
from aligntune_core.saved.find import find_saved
from aligntune_core.saved.opening import open_saved

from .marks import heavy

QUESTIONS = ["What is a token?", "What is LoRA?", "Why?"]


def chat_rows():
    return [
        {"messages": [{"role": "user", "content": r["instruction"]}, {"role": "assistant", "content": r["output"]}]}
        for r in rows()[:24]
    ]


def opened(name, **options):
    return open_saved(find_saved(str(name)), **options)


def generated(capsys, *arguments):
    capsys.readouterr()
    assert run(["generate", *map(str, arguments), "--json"]) == 0
    return [pair["answer"] for pair in json.loads(capsys.readouterr().out)["answers"]]


RUNS = {
    "full": {},
    "full in bf16": {"precision": "bf16"},
    "lora": {"use_peft": True, "learning_rate": 1e-2},
    "lora in bf16": {"use_peft": True, "learning_rate": 1e-2, "precision": "bf16"},
    "qlora": {"load_in_4bit": True, "learning_rate": 1e-2},
}


@pytest.mark.parametrize("name", [heavy(name) if name.endswith("bf16") else name for name in RUNS])
def test_generate_answers_as_the_trainer_of_the_run(make, capsys, name):
    trainer = make(train_dataset=chat_rows(), system_prompt="Be brief.", max_steps=8, batch_size=8, **RUNS[name])
    before = trainer.predict(QUESTIONS)
    trainer.train()
    expected = trainer.predict(QUESTIONS)
    assert expected != before
    assert generated(capsys, trainer.run_dir, *QUESTIONS) == expected
    assert generated(capsys, trainer.run_dir / "checkpoint-8", *QUESTIONS) == expected


def test_rows_of_plain_text_are_asked_as_they_stand(make, capsys):
    trainer = make(max_steps=4)
    trainer.train()
    assert generated(capsys, trainer.run_dir, *QUESTIONS) == trainer.predict(QUESTIONS)


def test_another_system_prompt_is_honoured_and_plain_text_has_none(make):
    trainer = make(train_dataset=chat_rows(), max_steps=2)
    trainer.train()
    with_prompt = [{"role": "system", "content": "Be loud."}, {"role": "user", "content": QUESTIONS[0]}]
    answered = opened(trainer.run_dir, system_prompt="Be loud.").predict(QUESTIONS[:1], Sampling())
    assert answered == trainer.predict([with_prompt])
    plain = make(max_steps=1, overwrite=True)
    plain.train()
    with pytest.raises(ConfigError, match=r"system_prompt = 'Be loud.': this model is not asked in conversations"):
        opened(plain.run_dir, system_prompt="Be loud.")


def test_a_model_that_no_run_made_answers_as_in_plain_transformers(tiny, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    asked = [{"role": "user", "content": QUESTIONS[0]}]
    options = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
    batch = tokenizer.apply_chat_template(asked, **options)
    ids = model.generate(**batch, do_sample=False, max_new_tokens=24)[0, batch["input_ids"].shape[1] :]
    assert generated(capsys, tiny, QUESTIONS[0]) == [tokenizer.decode(ids, skip_special_tokens=True).strip()]


def test_a_reward_model_gives_the_scores_of_its_trainer(align, capsys):
    pairs = [{"prompt": "a b", "chosen": f" {w}", "rejected": " j"} for w in "abcdefgh"]
    trainer = align("reward", train_dataset=pairs, max_steps=2)
    trainer.train()
    texts = ["a b a", "a b j"]
    assert generated(capsys, trainer.run_dir, *texts) == trainer.predict(texts)
    with pytest.raises(ConfigError, match="a reward model gives scores, and draws nothing"):
        opened(trainer.run_dir).predict(texts, Sampling(temperature=1.0))


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings", "ignore:Setting `save_embedding_layers`")
def test_an_adapter_on_the_embedding_answers_and_is_trained_on(make, capsys, tmp_path):
    trainer = make(use_peft=True, lora_target_modules="embed_tokens", learning_rate=1e-2, max_steps=2)
    trainer.train()
    assert generated(capsys, trainer.run_dir, *QUESTIONS) == trainer.predict(QUESTIONS)
    again = make(model_name=str(trainer.run_dir), output_dir=str(tmp_path / "again"), max_steps=1)
    assert again.train().steps == 1


def test_a_seed_repeats_what_is_drawn(tiny):
    model = opened(tiny)
    drawn = Sampling(temperature=1.0, seed=3)
    first = model.predict(QUESTIONS, drawn)
    assert model.predict(QUESTIONS, drawn) == first
    assert model.predict(QUESTIONS, Sampling(temperature=1.0, seed=4)) != first
    assert model.predict(QUESTIONS, Sampling(temperature=1.0, top_p=1e-6, seed=4)) == model.predict(
        QUESTIONS, Sampling()
    )


def test_as_many_tokens_as_were_asked_for(tiny):
    from transformers import AutoTokenizer

    text = opened(tiny).predict(["What is"], Sampling(max_tokens=3, temperature=1.0, seed=0))[0]
    assert 1 <= len(AutoTokenizer.from_pretrained(tiny)(text).input_ids) <= 3


@pytest.fixture
def talker(make):
    """An open model of a run on conversations."""
    trainer = make(train_dataset=chat_rows(), max_steps=8, batch_size=8)
    trainer.train()
    return opened(trainer.run_dir)


def test_the_pieces_of_a_stream_are_the_answer(talker):
    asked = [{"role": "user", "content": QUESTIONS[0]}]
    pieces = list(talker.stream(asked, Sampling()))
    assert len(pieces) > 1
    assert "".join(pieces).strip() == talker.predict([asked], Sampling())[0]


def test_a_stream_that_nobody_reads_on_ends_its_generation(talker):
    before = threading.active_count()
    stream = talker.stream([{"role": "user", "content": "Why?"}], Sampling(max_tokens=100_000, temperature=50.0))
    assert next(stream)
    stream.close()
    assert threading.active_count() == before


def test_what_fails_while_streaming_is_told(talker):
    longest = talker._model.model.config.max_position_embeddings
    with pytest.raises(ConfigError, match="positions; begin a new one: /reset"):
        list(talker.stream([{"role": "user", "content": "a " * longest}], Sampling()))
