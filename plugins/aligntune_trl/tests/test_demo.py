"""The demo, shortened: what a newcomer sees first."""

from __future__ import annotations

from pathlib import Path

import pytest
from aligntune_trl.tiny import write_tiny_model

from aligntune_core.cli import demo
from aligntune_core.cli.main import run
from aligntune_core.demo import HELD_BACK, rows
from aligntune_core.runs.metrics import read


def test_the_small_model_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert write_tiny_model("causal_lm", tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert "model.safetensors" in files
    assert [(tmp_path / "one" / f).read_bytes() for f in files] == [(tmp_path / "two" / f).read_bytes() for f in files]


def test_the_demo_ends_with_answers_a_curve_and_the_folder(in_tmp, monkeypatch, capsys):
    monkeypatch.setattr(demo, "EPOCHS", 1)
    assert run(["demo"]) == 0
    shown = capsys.readouterr()
    (folder,) = Path("runs").iterdir()
    assert shown.out.count("before:") == shown.out.count("after:") == demo.SHOWN
    assert "(loss)" in shown.out
    assert f"everything is in {folder}" in shown.out
    assert {"run.json", "metrics.jsonl", "samples.jsonl", "model", "report.html"} <= {p.name for p in folder.iterdir()}


@pytest.mark.heavy
def test_the_demo_is_deterministic(in_tmp, monkeypatch, capsys):
    monkeypatch.setattr(demo, "EPOCHS", 1)
    losses = []
    for name in ("one", "two"):
        assert run(["demo", "--output-dir", name]) == 0
        losses.append([row.get("loss") for row in read(Path(name) / "metrics.jsonl")])
    assert losses[0] == losses[1]
    assert losses[0]


def test_the_data_set_is_large_enough_and_the_questions_are_new():
    train, held_back = rows(), rows(HELD_BACK)
    assert len(train) >= 200
    assert not {r["instruction"] for r in held_back} & {r["instruction"] for r in train}
    assert {r["output"] for r in held_back} <= {r["output"] for r in train}
