"""The report in a real browser; run by `nox -s browser`, not by the default suite.

ALIGNTUNE_SCREENSHOT=path.png also saves a picture of the page. ALIGNTUNE_SCHEME=dark takes it in the dark.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aligntune_core.runs.report import write_report

CHROMIUM = Path("/usr/bin/chromium")
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
ATTACK = "<script>alert(1)</script>"
STEPS = 120

RUN: dict[str, Any] = {
    "schema": 1,
    "run_id": "20261121-2101-sft-gemma-3-270m",
    "status": "finished",
    "algorithm": "sft",
    "config": {
        "model_name": "google/gemma-3-270m", "dataset_name": "support-answers.jsonl", "learning_rate": 2e-4,
        "max_steps": STEPS, "eval_fraction": 0.1, "use_lora": True, "lora_r": 16, "lora_alpha": 32, "seed": 42,
        "revision": None, "attn_implementation": None, "trust_remote_code": False, "precision": "auto",
        "num_epochs": 3.0, "batch_size": 4, "gradient_accumulation_steps": 4, "lr_scheduler": "cosine",
        "warmup_steps": 0.03, "weight_decay": 0.0, "optimizer": "adamw_torch_fused", "max_grad_norm": 1.0,
        "max_seq_length": 1024, "packing": False, "column_mapping": {"prompt": "question", "completion": "answer"},
    },
    "given": {
        "model_name": "google/gemma-3-270m", "dataset_name": "support-answers.jsonl", "learning_rate": "2e-4",
        "max_steps": STEPS, "eval_fraction": 0.1, "use_lora": True,
    },
    "selection": {
        "backend": "trl", "asked": "auto", "reason": "chosen by auto",
        "rejected": [{"backend": "unsloth", "reason": "not installed; pip install aligntune-unsloth"}],
    },
    "versions": {"aligntune": "0.1.0", "torch": "2.13.0", "transformers": "5.3.1", "trl": "1.2.0", "peft": "0.19.0"},
    "plugins": [{"name": "trl", "distribution": "aligntune-trl", "version": "0.1.0"}],
    "data": {
        "source": "support-answers.jsonl", "rows": 1969,
        "sha256": "9f2feb0f1ef425b292f2f94bfc8482494df430413a0d5e1d6c8a9a5b1f0f6a57",
    },
    "seed": 42,
    "resolved": {"per_device_train_batch_size": 4, "learning_rate": 2e-4, "bf16": True, "report_to": []},
    "steps_planned": STEPS,
    "steps_done": STEPS,
    "model_path": "model",
    "seconds": 183.4,
}  # fmt: skip

SAMPLES = (
    (
        "How do I reset my password?",
        "How do I reset my password? How do I reset my password? How do I reset my",
        "Open Settings, choose Account, then Reset password. We send a link to your e-mail address; it is good for "
        "one hour.",
    ),
    (
        "Which HTML tag runs a script?",
        "The tag is the tag of the tag which is\nthe tag.",
        f"It is the script tag, as in {ATTACK}. Keep it out of text that others wrote.",
    ),
)


@dataclass
class Heard:
    """What the page asked for, and what it complained about."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def _metrics() -> Iterator[dict[str, Any]]:
    chance = random.Random(42)  # noqa: S311 - noise for a picture
    for step in range(2, STEPS + 1, 2):
        clean = 1.12 + 1.75 * math.exp(-step / 24)
        rate = 2e-4 * min(step / 6, 0.5 + 0.5 * math.cos(math.pi * step / STEPS))
        yield {
            "step": step, "epoch": step / 110, "time": 1.79e9 + 1.5 * step, "split": "train",
            "loss": clean + chance.gauss(0, 0.05), "learning_rate": rate,
            "grad_norm": 0.6 + 1.4 * math.exp(-step / 15) + chance.random() * 0.25,
            "tokens_per_second": 8120 + chance.gauss(0, 140) - (2600 if step == 2 else 0),
        }  # fmt: skip
        if step % 20 == 0:
            yield {"step": step, "time": 1.79e9 + 1.5 * step, "split": "eval", "loss": clean + 0.11}


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def report(tmp_path: Path) -> Path:
    (tmp_path / "run.json").write_text(json.dumps(RUN), encoding="utf-8")
    _jsonl(tmp_path / "metrics.jsonl", list(_metrics()))
    sides = [(0, 1), (STEPS, 2)]
    rows = [{"step": step, "prompt": sample[0], "completion": sample[at]} for step, at in sides for sample in SAMPLES]
    _jsonl(tmp_path / "samples.jsonl", rows)
    return write_report(tmp_path)


@pytest.fixture
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.fail(f"{CHROMIUM} is missing: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(params=[(1080, "light"), (1080, "dark"), (400, "light")], ids=["light", "dark", "phone"])
def look(request: pytest.FixtureRequest) -> tuple[int, str]:
    """Width of the window, and colour scheme."""
    width, scheme = request.param
    return width, scheme


def _open(browser: Any, report: Path, look: tuple[int, str]) -> tuple[Any, Heard]:
    heard = Heard()
    context = browser.new_context(
        viewport={"width": look[0], "height": 900}, color_scheme=look[1], offline=True, device_scale_factor=2
    )
    page = context.new_page()
    page.on("request", lambda request: heard.requests.append(request.url))
    page.on("pageerror", lambda error: heard.complaints.append(str(error)))
    page.on("dialog", lambda dialog: heard.complaints.append(f"dialog: {dialog.message}"))
    page.on("console", lambda told: heard.complaints.append(told.text) if told.type in ("error", "warning") else None)
    page.goto(report.as_uri())
    return page, heard


def test_the_page_asks_for_nothing_and_complains_of_nothing(browser: Any, report: Path, look: tuple[int, str]) -> None:
    _, heard = _open(browser, report, look)
    assert heard == Heard(requests=[report.as_uri()], complaints=[])


def test_every_chart_is_drawn(browser: Any, report: Path, look: tuple[int, str]) -> None:
    page, _ = _open(browser, report, look)
    charts = page.locator("figure svg").all()
    assert len(charts) == 4
    for chart in charts:
        box = chart.bounding_box()
        assert box["width"] > 100
        assert box["height"] > 50
        lengths = chart.locator("[id*=series-] > path").evaluate_all("all => all.map(p => p.getTotalLength())")
        assert lengths
        assert min(lengths) > 100


def test_the_page_is_never_wider_than_the_window(browser: Any, report: Path, look: tuple[int, str]) -> None:
    page, _ = _open(browser, report, look)
    page.evaluate("document.querySelectorAll('details').forEach(all => { all.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= look[0]


def test_a_script_in_a_sample_is_shown_and_not_run(browser: Any, report: Path, look: tuple[int, str]) -> None:
    page, heard = _open(browser, report, look)
    assert page.get_by_text(ATTACK).is_visible()
    assert page.locator("script").count() == 0
    assert heard.complaints == []


def test_a_picture_is_saved_where_asked(browser: Any, report: Path) -> None:
    page, _ = _open(browser, report, (1080, os.environ.get("ALIGNTUNE_SCHEME", "light")))
    end = page.get_by_role("heading", name="Backend").bounding_box()["y"]  # from the title to the samples
    clip = {"x": 0, "y": 0, "width": 1080, "height": end - 12}
    picture = page.screenshot(path=os.environ.get("ALIGNTUNE_SCREENSHOT"), clip=clip, full_page=True)
    assert picture.startswith(b"\x89PNG")
