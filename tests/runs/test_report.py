"""The report as text; tests/browser/check_report.py opens it in a browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aligntune_core.runs.charts import number
from aligntune_core.runs.report import CHARTS, duration, write_report

ATTACK = "<script>alert(1)</script>"
RUN = {"run_id": "1-sft", "status": "finished", "algorithm": "sft", "config": {"model_name": "org/tiny", "seed": 42}}
ROW = {"step": 10, "split": "train", "loss": 2.5, "learning_rate": 1e-4}


def _page(folder: Path, metrics: bytes | None = None, samples: list[dict[str, Any]] | None = None, **run: Any) -> str:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    (folder / "run.json").write_text(json.dumps(RUN | run), encoding="utf-8")
    if metrics is not None:
        (folder / "metrics.jsonl").write_bytes(metrics)
    if samples is not None:
        (folder / "samples.jsonl").write_text("\n".join(map(json.dumps, samples)), encoding="utf-8")
    return write_report(folder).read_text("utf-8")


def _lines(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _charts(page: str) -> list[str]:
    return re.findall(r"<figcaption>([^<]*)<", page)


def test_the_page_fetches_nothing_and_has_no_script(tmp_path: Path) -> None:
    page = _page(tmp_path, _lines(ROW), data={"source": "https://example.org/rows"})
    assert not re.search(r'src=|href=(?!"#)|url\((?!#)|@import|<script|<link', page)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first = _page(tmp_path, _lines(ROW, ROW | {"step": 20}))
    assert write_report(tmp_path).read_text("utf-8") == first


def test_no_draft_is_left(tmp_path: Path) -> None:
    _page(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "report.html"}


def test_untrusted_text_is_escaped_wherever_it_stands(tmp_path: Path) -> None:
    sample = {"step": 0, "prompt": ATTACK, "completion": ATTACK}
    rejected = [{"backend": ATTACK, "reason": ATTACK}]
    page = _page(
        tmp_path,
        samples=[sample, sample | {"step": 5}],
        status='" onload="x',
        error=ATTACK,
        config={"model_name": ATTACK, ATTACK: {ATTACK: [ATTACK]}},
        selection={"backend": ATTACK, "rejected": rejected},
        data={ATTACK: ATTACK},
    )
    assert "<script" not in page
    assert ' onload="' not in page
    assert "&lt;script&gt;" in page


def test_half_a_surrogate_pair_in_a_sample_does_no_harm(tmp_path: Path) -> None:
    assert "ab?" in _page(tmp_path, samples=[{"step": 3, "prompt": "p", "completion": "ab\ud83d"}])


@pytest.mark.parametrize("metrics", [None, b"", b"\n", b'{"step": 1'])
def test_a_run_without_metrics_has_a_page_without_charts(tmp_path: Path, metrics: bytes | None) -> None:
    page = _page(tmp_path, metrics)
    assert "Nothing was measured." in page
    assert _charts(page) == []


def test_a_run_that_died_at_once_has_a_page(tmp_path: Path) -> None:
    page = _page(tmp_path, status=None, config=None, run_id=None, algorithm=None)
    assert ">unknown</span>" in page


def test_what_cannot_be_read_is_skipped(tmp_path: Path) -> None:
    odd = b'[1]\n{"loss": 1}\n{"step": "x", "loss": 9}\n{"step": 30, "loss": NaN, "kl": true}\n{"step": 40, "lo\xff'
    page = _page(tmp_path, _lines(ROW) + odd)
    assert _charts(page) == ["Loss", "Learning rate"]
    assert "Loss: train 2.5 at step 10, 2.5 at step 10" in page


def test_a_resumed_run_shows_the_later_value_of_a_repeated_step(tmp_path: Path) -> None:
    page = _page(tmp_path, _lines(ROW, ROW | {"step": 20}, ROW | {"step": 10, "loss": 7.0}))
    assert "Loss: train 7 at step 10, 2.5 at step 20" in page


def test_train_stands_before_eval_even_where_eval_came_first(tmp_path: Path) -> None:
    page = _page(tmp_path, _lines({"step": 0, "split": "eval", "loss": 3.0}, ROW))
    assert "Loss: train 2.5 at step 10, 2.5 at step 10; eval 3 at step 0" in page


def test_every_chart_of_the_table_is_drawn_in_its_order(tmp_path: Path) -> None:
    page = _page(tmp_path, _lines({"step": 1, **dict.fromkeys(CHARTS, 1.0)}))
    assert _charts(page) == list(CHARTS.values())


def test_the_ids_of_the_charts_do_not_clash(tmp_path: Path) -> None:
    ids = re.findall(r'\bid="([^"]*)"', _page(tmp_path, _lines({"step": 1, **dict.fromkeys(CHARTS, 1.0)})))
    assert ids
    assert len(ids) == len(set(ids))


def test_samples_stand_before_and_after(tmp_path: Path) -> None:
    page = _page(tmp_path, samples=[{"step": s, "prompt": "p", "completion": f"said at {s}"} for s in (0, 5, 9)])
    assert page.index("said at 0") < page.index("After step 9") < page.index("said at 9")
    assert "said at 5" not in page


@pytest.mark.parametrize(("status", "title"), [("failed", "Why it failed"), ("interrupted", "Why it stopped")])
def test_a_run_that_did_not_finish_says_why(tmp_path: Path, status: str, title: str) -> None:
    page = _page(tmp_path, status=status, error="the disk is full")
    assert title in page
    assert "the disk is full" in page


def test_given_settings_stand_apart_with_the_value_that_was_used(tmp_path: Path) -> None:
    page = _page(tmp_path, given={"learning_rate": "2e-4"}, config={"learning_rate": 0.0002, "seed": 42})
    given = page[page.index('class="pairs given"') : page.index("All other settings")]
    assert "0.0002" in given
    assert "2e-4" not in given
    assert "seed" not in given


def test_weights_in_the_run_folder_are_named_without_it(tmp_path: Path) -> None:
    page = _page(tmp_path, model_path=str(tmp_path / "model"))
    assert "weights in model<" in page


def test_refused_backends_are_named_with_their_reason(tmp_path: Path) -> None:
    rejected = [{"backend": "unsloth", "reason": "not installed"}]
    page = _page(tmp_path, selection={"backend": "trl", "note": "slow here", "rejected": rejected})
    assert "Not <b>unsloth</b>: not installed" in page
    assert "slow here" in page


@pytest.mark.parametrize(
    ("value", "text"),
    [(1969, "1,969"), (2.29712, "2.297"), (0, "0"), (0.00015, "1.5e-4"), (8182.3, "8,182"), (-1.5, "−1.5")],
)
def test_numbers_are_for_people(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(12.34, "12.3 s"), (123.4, "2 min 3 s"), (4000, "1 h 6 min")])
def test_times_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_module_imports_neither_library() -> None:
    code = "import sys, aligntune_core.runs.report; print({'jinja2', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
