"""The documentation's examples run as they are written.

A tiny model and a few rows stand in place of hub names, short answers and few steps in place of long ones.
"""

from __future__ import annotations

import ast
import json
import logging
import re
import runpy
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aligntune_trl.tiny import write_tiny_model
from markdown_it import MarkdownIt

from aligntune import BackendUnavailableError, Trainer
from aligntune_core.cli.main import run
from aligntune_core.demo import rows

from .marks import heavy

DOCS = Path(__file__).resolve().parents[3] / "docs"
MODELS = (
    "unsloth/Llama-3.2-1B-Instruct-bnb-4bit",
    "unsloth/model-bnb-4bit",
    "unsloth/model",
    "microsoft/DialoGPT-small",
    "Qwen/Qwen3-0.6B",
)
ENCODER = "microsoft/MiniLM-L12-H384-uncased"
DATA = "tatsu-lab/alpaca"
LEFT_OUT = (
    *("aligntune demo", "aligntune chat runs/NAME", 'trainer.push_to_hub("owner/name")  # private=True'),
    *("aligntune diagnose --deep", "pip install 'aligntune[unsloth]'"),
)
"""Two take long, one wants a terminal, one the hub; each has a test of its own, and a wheel its session."""
RUNS = {"runs/NAME": ("sft", "questions.jsonl"), "runs/REWARD": ("reward", "preferences.jsonl")}
"""Runs that pages speak of → what was trained on which rows."""
SHORTER = {
    "max_completion_length: 128": "max_completion_length: 8",
    "max_completion_length=64": "max_completion_length=8",
    "max_steps=100": "max_steps=2",
    "range(9)": "range(3)",
}


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each block of code."""
    return [(t.info, t.content) for t in MarkdownIt().parse(page.read_text("utf-8")) if t.type == "fence"]


def is_walked(page: Path) -> bool:
    return not {"_build", "reference"} & set(page.parts) and any(lang in ("python", "bash") for lang, _ in blocks(page))


OWN = "tutorial.md"
"""It has a runner of its own, in a fresh environment."""
LONG = ("user-guide/preferences.md", "user-guide/reinforcement.md")
"""Each trains several models."""
PAGES = sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if is_walked(page) and page.name != OWN)


def named(language: str, ending: str) -> dict[str, str]:
    """The blocks of a language that name their file in the first line."""
    found = [text for page in DOCS.rglob("*.md") for lang, text in blocks(page) if lang == language]
    files = {text.splitlines()[0].removeprefix("# "): text for text in found}
    return {name: text for name, text in files.items() if re.fullmatch(rf"[\w-]+\.{ending}", name)}


def settings_files() -> dict[str, str]:
    return named("yaml", "yaml")


def data_files() -> dict[str, list[dict[str, str]]]:
    """The rows that the pages speak of."""
    asked = rows()[:8]
    sums = {f"What is {a} + {b}?": str(a + b) for a in range(1, 9) for b in range(1, 6)}
    return {
        "questions": [{"instruction": row["instruction"], "output": row["output"]} for row in asked],
        "answers": [{"question": row["instruction"], "answer": row["output"]} for row in asked],
        "sums": [{"instruction": question, "answer": answer} for question, answer in sums.items()],
        "preferences": [{"prompt": f"{q}\n", "chosen": a, "rejected": "I do not know."} for q, a in sums.items()],
        "films": [{"text": row["output"], "label": "good" if n % 2 else "bad"} for n, row in enumerate(asked * 2)],
    }


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "encoder"
    assert write_tiny_model("classification", path)
    return path


@pytest.fixture
def names(tiny: Path, tiny_encoder: Path) -> Mapping[str, str]:
    """What stands in the text → what is put in its place; a call whose page says what is left out gets that."""
    with_rows = {
        '"model"': f'"{tiny}", dataset_name="questions.jsonl"',
        '"trl" # Works': f'"trl", model_name="{tiny}", dataset_name="sums.jsonl", reward_functions="numeric_match"',
    }
    own = {ENCODER: str(tiny_encoder), DATA: "questions.jsonl"}
    return dict.fromkeys(MODELS, str(tiny)) | own | with_rows | SHORTER


@pytest.fixture
def here(tmp_path: Path, names: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files that the documentation speaks of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aligntune_trl.generate.LONGEST_ANSWER", 8)  # an untrained model talks to the end
    for name, given in data_files().items():
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in given), "utf-8")
    for name, text in (settings_files() | named("python", "py")).items():
        Path(name).write_text(local(text, names), "utf-8")
    logger = logging.getLogger("aligntune")
    handlers = list(logger.handlers)
    yield tmp_path
    logger.handlers[:] = handlers  # the command line adds its own


def local(text: str, names: Mapping[str, str]) -> str:
    for name, path in names.items():
        text = text.replace(name, path)
    return text


def error_of(statement: ast.stmt, source: str) -> type[Exception] | None:
    """The error that the page says a statement raises today."""
    if isinstance(statement, ast.Try) or "_trainer(" not in source:
        return None
    return BackendUnavailableError if 'backend="unsloth"' in source else None


def run_python(text: str, namespace: dict[str, Any]) -> None:
    """Run a block statement by statement; what the page says fails must fail so, the rest must work."""
    for statement in ast.parse(text).body:
        source = ast.get_source_segment(text, statement) or ""
        path = Path("example.py")
        path.write_text(source, "utf-8")
        expected = error_of(statement, source)
        if expected is not None:
            with pytest.raises(expected) as raised:
                runpy.run_path(str(path), init_globals=namespace)
            assert type(raised.value) is expected
            continue
        namespace |= runpy.run_path(str(path), init_globals=namespace)
        if "trainer = " in source:
            check_trainer(namespace["trainer"], "GRPOTrainer" if "create_rl_trainer(" in source else "SFTTrainer")


def check_trainer(trainer: Trainer, native: str) -> None:
    assert trainer.selection.backend == "trl"
    assert type(trainer.native).__name__ == native
    trainer.close()


def train_what_is_spoken_of(text: str, model: Path) -> None:
    """The runs that a page takes as given."""
    for name, (algorithm, data) in RUNS.items():
        if name in text and not Path(name).exists():
            given = {"model-name": model, "dataset-name": data, "output-dir": name, "max-steps": 1, "batch-size": 4}
            flags = [f"--{flag}={value}" for flag, value in given.items()]
            assert run(["train", "--algorithm", algorithm, *flags]) == 0


def run_bash(text: str) -> None:
    """Run each command; a command that trains does train, but for those that name Unsloth: here it cannot."""
    for line in text.splitlines():
        if line and not line.startswith("#") and line not in LEFT_OUT:
            program, *arguments = shlex.split(line)
            assert program == "aligntune"
            assert run(arguments) == (3 if "unsloth" in line else 0), line


@pytest.mark.parametrize("name", [heavy(name) if name in LONG else name for name in PAGES])
def test_a_page_works_from_top_to_bottom(name: str, names: Mapping[str, str], tiny: Path, here: Path) -> None:
    namespace: dict[str, Any] = {}
    for language, text in blocks(DOCS / name):
        if language == "python" and text.strip() not in LEFT_OUT:
            run_python(local(text, names), namespace)
        elif language == "bash":
            train_what_is_spoken_of(text, tiny)
            run_bash(local(text, names))


def test_the_readmes_calls_and_commands_work(names: Mapping[str, str], here: Path) -> None:
    namespace: dict[str, Any] = {}
    for language, text in blocks(DOCS.parent / "README.md"):
        text = local(text, {**names, "rows.jsonl": "questions.jsonl"})
        if language == "python":
            run_python(text, namespace)
        for line in text.splitlines() if language == "bash" else ():
            if line.startswith("aligntune train"):
                assert run([*shlex.split(line)[1:], "--dry-run"]) == 0, line


@pytest.mark.parametrize("name", sorted(settings_files().keys() - {"bad.yaml"}))
def test_a_settings_file_passes_every_check(name: str, here: Path) -> None:
    assert run(["train", name, "--output-dir", "new", "--dry-run"]) == 0


def shown_error(page: str) -> str:
    """The first error that a page shows."""
    return next(text for _, text in blocks(DOCS / "user-guide" / page) if text.startswith("error: "))


def test_the_errors_that_are_shown_are_those_that_come(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "bad.yaml"]) == 2
    assert capsys.readouterr().err == shown_error("configuration.md")
    assert run(["train", "grpo.yaml", "--num-generations", "5", "--gradient-accumulation-steps", "4"]) == 2
    assert capsys.readouterr().err.endswith(shown_error("reinforcement.md"))


def test_a_reward_that_fails_says_what_the_page_shows(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mistaken = Path("rewards.py").read_text("utf-8").replace("text_of(completion)) / 100", "completion.strip()) / 100")
    Path("rewards.py").write_text(mistaken, "utf-8")
    assert run(["train", "grpo.yaml", "--reward-functions", "rewards.py:concise"]) == 4
    shown = shown_error("rewards.md")
    said = re.sub(r": row \d+: ", ": row 23: ", capsys.readouterr().err)  # which row is the first is TRL's to say
    assert said.endswith(shown)


def test_a_call_without_rows_says_so(tiny: Path, here: Path) -> None:
    from aligntune import ConfigError, create_sft_trainer

    with pytest.raises(ConfigError, match="dataset_name: is missing"):
        create_sft_trainer(model_name=str(tiny), backend="trl")
