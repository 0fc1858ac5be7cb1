"""`aligntune preview` of labelled and tagged rows, and of models with an encoder: what is trained, no model loaded."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from aligntune_trl.tasks.exchanges import Exchanges
from aligntune_trl.tokenise import Tokeniser
from transformers import AutoTokenizer, ByT5Tokenizer

from aligntune_core.cli.main import run
from aligntune_core.factory import request_of
from aligntune_core.installed import default_registry

from .conftest import ROWS, rows_of


@pytest.fixture
def shown(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """What the command gives for rows; as data with --json."""

    def call(rows: list[Any], model: Path, *flags: str) -> Any:
        Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        capsys.readouterr()
        assert run(["preview", f"--model-name={model}", "--dataset-name=rows.jsonl", "--backend=trl", *flags]) == 0
        out = capsys.readouterr().out
        return json.loads(out) if "--json" in flags else out

    return call


def alike(trainer: Any) -> bool:
    """Whether the hook shows the tokens and labels that the trainer trains."""
    plan = trainer._plan
    found = default_registry().backends["trl"].build_preview(request_of(plan)).rows(list(plan.rows.train))
    trained = trainer._ready.preview(list(plan.rows.train))
    first = [next(iter(row.parts.values())) for row in found]
    return [(list(a.input_ids), list(a.labels)) for a in first] == [
        (list(b.input_ids), list(b.labels)) for b in trained
    ]


@pytest.mark.parametrize("kind", ["single", "multi", "regression", "tokens"])
def test_rows_with_labels_are_shown_as_they_are_trained(label, kind):
    assert alike(label(kind, eval_dataset=None, max_steps=1, max_seq_length=8))


@pytest.mark.parametrize("kind", ["seq2seq", "bart", "encoder_decoder"])
def test_questions_and_answers_are_shown_as_they_are_trained(translate, kind):
    assert alike(translate(kind, eval_dataset=None, max_steps=1))


def test_a_word_without_a_label_is_shown_without_one(shown, encoder):
    rows = [{"tokens": ["red", "and", "cow"], "labels": [1, -100, 0]}]
    (row,) = shown(rows, encoder, "--json")["rows"]
    assert row["label"] == "red=1 and cow=0"


@pytest.mark.parametrize(
    ("kind", "said"), [("single", "colour"), ("multi", "red"), ("regression", "0.666667"), ("tokens", "=B-colour")]
)
def test_the_label_is_told_in_words(shown, encoder, kind, said):
    row = next(row for row in rows_of(kind) if kind == "tokens" or said[:4] in str(row["label"]))
    other = next(r for r in rows_of(kind) if r.get("label") != row.get("label") or kind == "tokens")
    assert said in shown([row, other], encoder, "--json")["rows"][0]["label"]


def test_the_page_counts_what_is_cut_at_what_the_model_reads(shown, encoder):
    """The tiny encoder reads 64 tokens, less than the default of `max_seq_length`."""
    rows = [{"text": "red " * 200, "label": "a"}, {"text": "cat", "label": "b"}]
    out = shown(rows, encoder)
    assert "row 1 · cut at max_seq_length 64 · 64 tokens, 0 trained\n" in out
    assert "  label: a\n" in out
    assert "trained    a label for each of 2 rows\ncut        1 row at max_seq_length 64\n" in out


def test_the_page_counts_the_words_that_have_a_label(shown, encoder):
    rows = [{"tokens": ["red", "green"], "labels": ["X", "O"]}]
    out = shown(rows, encoder)
    assert "  label: red=X green=O\n" in out
    assert "trained    a label for each of 2 words in 1 row\n" in out
    assert "end  " not in out


def test_an_answer_ends_as_it_is_trained(shown, model_of):
    found = shown(ROWS, model_of("seq2seq"), "--json")
    tokens = found["rows"][0]["parts"]["row"]
    assert "".join(t["text"] for t in tokens if t["trained"]) == "river<|end|>"
    assert (found["end"]["unended"], found["end"]["sequences"]) == (0, len(ROWS))


@pytest.mark.parametrize("flag", ["--packing", "--assistant-only-loss=false"])
def test_what_such_a_model_cannot_honour_is_refused(in_tmp, model_of, capsys, flag):
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    flags = [f"--model-name={model_of('seq2seq')}", "--dataset-name=rows.jsonl", "--backend=trl", flag]
    for command in (["preview"], ["train", "--dry-run"]):
        assert run([*command, *flags]) == 2
        assert f"{flag.strip('-').partition('=')[0].replace('-', '_')} = " in capsys.readouterr().err


def test_a_tokenizer_that_ends_texts_ends_questions_too(model_of):
    """As T5's does: then a conversation is read with that end, once, when it is trained and when it is asked."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = AutoTokenizer.from_pretrained(model_of("seq2seq"))
    end = (tokenizer.eos_token, tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A <|end|>", special_tokens=[end])
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    (pair,) = Exchanges(Tokeniser(tokenizer), 64).tokens({"messages": chat, "context": 0})
    assert tokenizer.decode(pair.asked) == "<|user|>Hi<|end|><|assistant|><|end|>"
    assert tokenizer.decode(pair.said) == "Ho<|end|>"


@pytest.mark.parametrize("kind", ["single", "tokens"])
def test_rows_without_text_or_words_are_shown_as_left_out(shown, encoder, kind):
    rows = rows_of(kind)[:20]
    rows[1] = rows[1] | ({"text": ""} if kind == "single" else {"tokens": [], "labels": []})
    found = shown(rows, encoder, "--json")
    assert [row["left_out"] for row in found["rows"]][:3] == [False, True, False]
    assert "left out   1 row" in shown(rows, encoder)


@pytest.fixture
def bytewise(encoder: Path, tmp_path: Path) -> Path:
    """The tiny encoder with a tokenizer of bytes, which is written in Python."""
    path = tmp_path / "bytewise"
    copytree(encoder, path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (path / name).unlink()
    ByT5Tokenizer().save_pretrained(path)
    return path


def test_a_tokenizer_of_bytes_is_shown_for_texts_and_refused_for_words(shown, bytewise, capsys):
    assert "label: " in shown(rows_of("single")[:20], bytewise)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of("tokens")[:20]), "utf-8")
    assert run(["preview", f"--model-name={bytewise}", "--dataset-name=rows.jsonl", "--backend=trl"]) == 2
    assert "its tokenizer cannot say to which word a token belongs" in capsys.readouterr().err
