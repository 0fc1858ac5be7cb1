"""An answer ends where the model has no more positions, and not in an error."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest
import torch
from aligntune_trl import generate
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from aligntune_core import ConfigError, OpenModel, Sampling
from aligntune_core.saved.find import find_saved
from aligntune_core.saved.opening import open_saved

from .tasks.conftest import write_bart

SHORT, LONGER = "Spell map: ", "Spell map and then salt and then moss: "


def opened(path: Path) -> OpenModel:
    return open_saved(find_saved(str(path)))


@pytest.fixture(scope="module")
def gpt2(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 positions, each with a weight of its own; it never ends an answer by itself."""
    path = tmp_path_factory.mktemp("models") / "gpt2"
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(path)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=2, n_positions=64, pad_token_id=0)
    config.bos_token_id = config.eos_token_id = None
    torch.manual_seed(0)
    GPT2LMHeadModel(config).save_pretrained(path)
    return path


def test_an_answer_stops_where_the_positions_end_and_that_is_told(gpt2, caplog):
    with caplog.at_level("INFO", "aligntune"):
        (said,) = opened(gpt2).predict([SHORT], Sampling(max_tokens=200))
    tokenizer = AutoTokenizer.from_pretrained(gpt2)
    left = 64 - len(tokenizer(SHORT).input_ids)
    assert said
    assert f"an answer may have {left} tokens, and not 200: the model has no more positions" in caplog.text


def test_the_default_length_is_cut_without_a_word(gpt2, caplog, monkeypatch):
    monkeypatch.setattr(generate, "LONGEST_ANSWER", 256)
    with caplog.at_level("INFO", "aligntune"):
        assert opened(gpt2).predict([SHORT], Sampling())
    assert "positions" not in caplog.text


def test_an_answer_is_not_shorter_for_what_is_asked_beside_it(gpt2):
    model, much = opened(gpt2), Sampling(max_tokens=200)
    assert model.predict([SHORT, LONGER], much) == [model.predict([each], much)[0] for each in (SHORT, LONGER)]


def test_a_question_without_room_for_an_answer_is_refused(gpt2):
    with pytest.raises(ConfigError, match=r"inputs: .* and the model has 64 positions for it and its answer; shorten"):
        opened(gpt2).predict([SHORT, SHORT * 30], Sampling())


def test_a_decoder_of_its_own_stops_where_its_positions_end(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "LONGEST_ANSWER", 256)
    write_bart(tmp_path)
    assert opened(tmp_path).predict([SHORT], Sampling())


def test_a_stream_stops_there_too(gpt2, tiny, tmp_path):
    copytree(gpt2, tmp_path / "talks")
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / "talks")  # it has a chat template
    model, asked, much = opened(tmp_path / "talks"), [{"role": "user", "content": "Spell"}], Sampling(max_tokens=200)
    assert "".join(model.stream(asked, much)).strip() == model.predict([asked], much)[0]
