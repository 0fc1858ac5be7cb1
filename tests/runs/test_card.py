"""The model card: what it tells, what it keeps to itself, and that the hub's own library reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from aligntune_core.runs.card import Card
from aligntune_core.saved_values import MergeReport

RUN: dict[str, Any] = {
    "run_id": "first",
    "algorithm": "sft",
    "task": "chat_completion",
    "model_type": "causal_lm",
    "config": {"model_name": "owner/base", "dataset_name": "owner/rows", "eval_fraction": 0.1, "lora_r": 8},
    "given": {"model_name": "owner/base", "learning_rate": 1e-4, "output_dir": "/home/me/runs/first"},
    "origin": {"model_name": "hub", "dataset_name": "hub"},
    "selection": {"backend": "trl"},
    "versions": {"aligntune": "0.1.0", "torch": "2.13.0"},
    "data": {"source": "owner/rows", "rows": 1234, "sha256": "ab" * 32},
    "steps_done": 20,
}
ROWS = [
    {"step": 0, "epoch": 0.0, "time": 1.0, "split": "eval", "loss": 3.5},
    {"step": 10, "epoch": 0.5, "time": 2.0, "split": "train", "loss": 2.5, "grad_norm": None},
    {"step": 20, "epoch": 1.0, "time": 3.0, "split": "eval", "loss": 2.25, "perplexity": 9.4877},
]


def front(card: Card) -> dict[str, Any]:
    """The front matter as YAML reads it."""
    found: dict[str, Any] = yaml.safe_load(card.text().split("---\n")[1])
    return found


def given(**changes: Any) -> dict[str, Any]:
    return RUN | {"given": changes}


def test_it_tells_data_settings_versions_and_both_measurements() -> None:
    text = Card("first", RUN, ROWS).text()
    for part in (
        "| trained on | owner/rows | 1,234 | " + "ab" * 32 + " |",
        "| on held-back rows | before training | after step 20 |\n| --- | --- | --- |\n| loss | 3.5 | 2.25 |",
        "| in training, after step 10 |  |\n| --- | --- |\n| loss | 2.5 |",
        "learning_rate: 0.0001\nmodel_name: owner/base\n",
        "| torch | 2.13.0 |",
        "| base model | owner/base |",
        "| steps | 20 |",
    ):
        assert part in text


def test_the_front_matter_has_what_is_known_and_no_licence() -> None:
    found = front(Card("first", RUN, ROWS, base="owner/base", adapter=True))
    index = found.pop("model-index")
    assert found == {
        "base_model": "owner/base",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["aligntune", "sft", "lora"],
        "datasets": ["owner/rows"],
    }
    measured = [(m["type"], m["value"]) for m in index[0]["results"][0]["metrics"]]
    assert measured == [("loss", 2.25), ("perplexity", 9.4877)]


def test_the_library_of_the_hub_reads_it() -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(Card("first", RUN, ROWS).text()).data
    assert (data.base_model, data.datasets, data.model_name) == ("owner/base", ["owner/rows"], "first")
    assert {(r.metric_type, r.metric_value) for r in data.eval_results} == {("loss", 2.25), ("perplexity", 9.4877)}


def test_folders_and_secrets_stay_here() -> None:
    options = {"hub_token": "hf_abc", "adam_beta2": 0.95, "logs": ["/home/me/logs"]}
    run = given(dataset_name="/home/me/secret-project/rows.jsonl", backend_options=options, output_dir="/home/me/x")
    run |= {"config": run["given"] | {"model_name": "~/models/base"}, "origin": {"model_name": "local"}}
    run |= {"data": {"source": "/home/me/secret-project/rows.jsonl", "rows": 1, "sha256": "ab"}}
    card = Card("first", run)
    assert not re.search("home|secret-project|hf_abc|~", card.text())
    assert "dataset_name: rows.jsonl" in card.text()
    assert not {"base_model", "datasets"} & set(front(card))


BREAKING = ["---\nlicense: mit", "```\n# heading", "a | b\n\n## heading", "<script>alert(1)</script>"]


@pytest.mark.parametrize("text", BREAKING)
def test_a_setting_cannot_break_out_of_its_place(text: str) -> None:
    run = given(system_prompt=text) | {"data": {"source": text, "rows": 1, "sha256": "ab"}}
    card = Card("first", run)
    assert "license" not in front(card)
    lines = re.sub(r"(?ms)^(`{3,})yaml$.*?^\1$", "", card.text()).splitlines()
    assert [line for line in lines if line.startswith("#")] == ["# first", "## Data", "## Settings", "## Versions"]
    assert not any("<script>" in line.replace("\\<", "") for line in lines)


def test_what_was_merged_is_measured() -> None:
    note = "its base was dequantised"
    report = MergeReport(dtype="bfloat16", difference=0.089, tolerance=0.17, effect=2.7, note=note)
    text = Card("first", RUN, base="owner/base", merged=report).text()
    assert "by at most 0.089 on rows of fixed tokens; rounding to bfloat16 explains 0.17." in text
    assert "The adapter itself changes them by up to 2.7. Its base was dequantised." in text
    assert "| saved as | a full model in bfloat16 |" in text


def test_a_checkpoint_tells_nothing_of_what_came_later(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(RUN), "utf-8")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    text = Card.of(tmp_path, base=None, adapter=False, step=10).text()
    assert "| steps | 10 |" in text
    assert "2.25" not in text


def test_a_run_that_died_early_has_a_card_too() -> None:
    assert Card("first", {"algorithm": "sft"}).text().endswith("| saved as | a full model |\n")


def test_several_data_sets_are_told_without_their_folders_and_those_of_the_hub_named() -> None:
    run = RUN | {"config": {"dataset_name": ["owner/one", "owner/two"]}}
    assert front(Card("first", run))["datasets"] == ["owner/one", "owner/two"]
    names = ["/home/me/a.jsonl", "acme/rows", "acme/[ae].jsonl", "./my secret/c.jsonl", "acme/d,e.jsonl"]
    mixed = RUN | {
        "config": {"dataset_name": names, "eval_dataset_name": "acme/rows"},
        "given": {"dataset_name": names, "eval_dataset_name": "acme/rows"},
        "origin": {"dataset_name": ["local", "hub", "local", "local", "local"], "eval_dataset_name": "local"},
    }
    card = Card("first", mixed, ROWS)
    assert "| trained on | a.jsonl, acme/rows, \\[ae\\].jsonl, c.jsonl, d,e.jsonl | 1,234 |" in card.text()
    assert "| evaluated on | rows |" in card.text()
    assert (front(card)["datasets"], card.text().count("acme/")) == (["acme/rows"], 3)
    assert not re.search("home|secret|acme/[^r]", card.text())


def test_a_run_knows_which_of_its_names_are_local(start: Any, chat_file: Path, fake_model: Path) -> None:
    folder = Path("my secret/client")
    folder.mkdir(parents=True)
    for name in ("a.jsonl", "e.jsonl"):
        (folder / name).write_text(chat_file.read_text("utf-8"), "utf-8")
    (Path("data") / "base").mkdir(parents=True)
    for file in fake_model.iterdir():
        (Path("data/base") / file.name).write_bytes(file.read_bytes())
    rows = [f"{folder}/[a].jsonl", f"{folder}/e.jsonl"]
    trainer = start(model_name="data/base", dataset_name=rows, eval_dataset_name=f"{folder}/e.jsonl", eval_steps=6)
    trainer.train()
    card = Card.of_model(trainer.run_dir / "model")
    assert "| trained on | \\[a\\].jsonl, e.jsonl |" in card.text()
    assert not re.search("secret|client|data/", card.text())
    assert not {"base_model", "datasets"} & set(front(card))


@pytest.mark.parametrize(
    ("setting", "value", "shown"),
    [
        ("reward_functions", ["my rewards/acme.py:short", "length"], "- acme.py:short\n- length"),
        ("chat_template", "acme templates/mine.jinja", "chat_template: mine.jinja"),
        ("chat_template", "{{ a / b }}", "{{ a / b }}"),
        ("backend_options", {"logging_dir": "acme logs/x", "beta": 0.5}, "logging_dir: x"),
        ("system_prompt", "/no_think Answer yes/no.", "/no_think Answer yes/no."),
        ("revision", "refs/pr/1", "refs/pr/1"),
    ],
)
def test_settings_are_told_without_folders_and_other_texts_as_they_stand(setting: str, value: Any, shown: str) -> None:
    text = Card("first", given(**{setting: value})).text()
    assert shown in text
    assert "acme " not in text
