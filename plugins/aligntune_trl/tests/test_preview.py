"""`aligntune preview` through TRL's plugin: what it shows is what is trained, and no model is loaded for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from aligntune_trl.preview import texts
from transformers import AutoTokenizer

from aligntune_core.cli.main import run

Data = Callable[..., Any]
CHAT = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello 🤗"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Ciao"},
]
CASES = {
    "text": ({"text": "one two"}, [], "<|end|>"),
    "prompt and completion": ({"prompt": "1 + 1? ", "completion": "2"}, [], "2<|end|>"),
    "conversation": ({"messages": CHAT}, [], "Hello 🤗<|end|>Ciao<|end|>"),
    "the whole conversation": ({"messages": CHAT}, ["--assistant-only-loss=false"], "<|assistant|>Ciao<|end|>"),
    "preference": ({"prompt": "Say", "chosen": " yes", "rejected": " no"}, ["--algorithm=dpo"], " yes<|end|>"),
    "reward model": ({"prompt": "Say", "chosen": " yes", "rejected": " no"}, ["--algorithm=reward"], " yes<|end|>"),
}


@pytest.fixture
def data(in_tmp: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> Data:
    """Preview rows as data."""

    def call(rows: list[Any], *flags: str, model: Path = tiny) -> Any:
        Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        flags = (f"--model-name={model}", "--dataset-name=rows.jsonl", "--backend=trl", *flags)
        capsys.readouterr()
        assert run(["preview", "--json", *flags]) == 0
        assert [path.name for path in Path().iterdir()] == ["rows.jsonl"]
        return json.loads(capsys.readouterr().out)

    return call


def trained(tokens: list[Any]) -> str:
    return "".join(token["text"] for token in tokens if token["trained"])


@pytest.mark.parametrize("name", CASES)
def test_it_shows_what_is_trained_of_each_kind_of_row(data, name):
    row, flags, expected = CASES[name]
    found = data([row], *flags)
    first = next(iter(found["rows"][0]["parts"].values()))
    assert trained(first).endswith(expected)
    assert (name == "text") is all(token["trained"] for token in first) or "whole" in name
    assert found["end"] == {
        "sequences": len(found["rows"][0]["parts"]), "unended": 0,
        "ended": [{"id": 1, "text": "<|end|>", "sequences": len(found["rows"][0]["parts"])}],
    }  # fmt: skip


@pytest.mark.parametrize("chat", [True, False], ids=["conversations", "text"])
def test_of_prompts_it_shows_what_the_model_goes_on_from(data, chat):
    rows = [{"prompt": CHAT[:1] if chat else "Hi", "answer": "Ho"}] * 32
    found = data(rows, "--algorithm=grpo", "--reward-functions=exact_match")
    tokens = found["rows"][0]["parts"]["prompt"]
    assert "".join(token["text"] for token in tokens) == ("<|user|>Hi<|end|><|assistant|>" if chat else "Hi")
    assert not trained(tokens)


def test_the_source_of_the_template_is_told(data, tiny, tmp_path):
    bare = copytree(tiny, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    rows = [{"messages": CHAT}]
    assert data(rows)["template"] == "tokenizer"
    assert data(rows, "--chat-template=plain")["template"] == "chat_template"
    assert data(rows, model=bare)["template"] == "plain"
    assert data([{"text": "a"}])["template"] == ""


def test_pairs_of_a_reward_model_are_left_out_and_not_cut(data):
    rows = [{"prompt": "a", "chosen": " b" * 20, "rejected": " c"}, {"prompt": "a", "chosen": " b", "rejected": " c"}]
    for algorithm, cut, left_out in (("reward", 0, 1), ("dpo", 1, 0)):
        summary = data(rows, f"--algorithm={algorithm}", "--max-seq-length=8")["summary"]
        assert (summary["cut"], summary["left_out"]) == (cut, left_out)


def test_the_texts_of_tokens_make_up_the_text(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    text = "<|user|>Ünïcödé 🤗🇩🇪\n\tx  y <|end|>"
    ids = tokenizer(text).input_ids
    found = texts(tokenizer, ids)
    assert len(found) == len(ids)
    assert "".join(found) == text
    assert found[0] == "<|user|>"


WITHOUT_WEIGHTS = """
import sys
from aligntune_core.cli.main import run
code = run(sys.argv[1:])
assert "trl" not in sys.modules and "peft" not in sys.modules, "a training library was imported"
sys.exit(code)
"""


@pytest.mark.heavy
def test_a_model_that_cannot_be_loaded_is_previewed_and_no_training_library_imported(tiny, row_file, tmp_path):
    model = copytree(tiny, tmp_path / "model")
    config = json.loads((model / "config.json").read_text("utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "hidden_size": 64}), "utf-8")
    flags = ["--model-name", str(model), "--dataset-name", str(row_file), "--backend", "trl"]
    assert run(["train", "--dry-run", *flags]) == 2
    command = [sys.executable, "-c", WITHOUT_WEIGHTS, "preview", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "row 3" in done.stdout
