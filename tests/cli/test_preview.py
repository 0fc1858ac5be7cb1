"""`aligntune preview`, with a backend whose tokens are words, and `<s>` and `</s>` around them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aligntune_core import Preview, RowPreview, RowTokens, Support, TrainRequest, hookimpl
from aligntune_core.cli.main import run
from aligntune_core.plugins import BackendRegistry
from aligntune_core.testing import FakeBackend

Use = Callable[..., BackendRegistry]
Shown = Callable[..., str]
TASKS = ("instruction_following", "chat_completion", "text_generation")
CELLS = {(task, "causal_lm"): Support("full") for task in TASKS}
ASKED = [{"prompt": f"What is {n} + 1?", "completion": str(n + 1), "source": "me"} for n in range(8)]
PAIRS = [{"prompt": "Say", "chosen": " yes please", "rejected": " no"}]


class Bent(FakeBackend):
    """A fake backend whose preview is changed; None takes the hook's result away."""

    def __init__(self, change: Callable[[Preview], Any], **given: Any) -> None:
        super().__init__(cells=CELLS, **given)
        self._change = change

    @hookimpl
    def build_preview(self, request: TrainRequest) -> Any:
        return self._change(super().build_preview(request))


class Untold(FakeBackend):
    """A backend of the time before there was a preview."""

    build_preview = None  # type: ignore[assignment]


def rows_file(rows: Sequence[Mapping[str, Any]]) -> str:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return "--dataset-name=rows.jsonl"


@pytest.fixture
def cli(
    in_tmp: Path, fake_model: Path, use_registry: Use, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Preview rows: exit code, standard output, standard error."""

    def call(rows: Any, *flags: str, backend: Any = None) -> tuple[int, str, str]:
        use_registry(fake=backend or FakeBackend(cells=CELLS))
        before = sorted(Path().rglob("*"))
        dataset = rows_file(rows)
        capsys.readouterr()
        code = run(["preview", f"--model-name={fake_model}", dataset, *flags])
        assert {*before, Path("rows.jsonl")} == {*Path().rglob("*")}
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def shown(cli: Callable[..., tuple[int, str, str]]) -> Shown:
    """Preview rows that are right: standard output."""

    def call(*args: Any, **kwargs: Any) -> str:
        code, out, err = cli(*args, **kwargs)
        assert (code, err) == (0, "")
        return out

    return call


@pytest.fixture
def data(shown: Shown) -> Callable[..., Any]:
    return lambda *args, **kwargs: json.loads(shown(*args, "--json", **kwargs))


def test_in_a_pipe_trained_text_is_in_brackets_and_special_tokens_are_marked(shown):
    first = shown(ASKED).split("\n\n")[0]
    assert first.splitlines() == ["row 1 · 8 tokens, 2 trained", "  │ ‹<s>›What is 0 + 1? [[1 ‹</s>›]]"]


def test_three_rows_are_shown_unless_another_number_is_asked_for(shown):
    assert [shown(ASKED, *flags).count("│") for flags in ([], ["-n", "5"], ["-n", "0"])] == [3, 5, 0]


def test_the_summary_is_over_all_rows_and_says_so(shown):
    summary = shown(ASKED).split("\n\n")[-1]
    assert summary.splitlines() == [
        "marks      [[trained]]  context  ‹special›",
        "looked at  all 8 training rows; the longest has 8 tokens",
        "columns    prompt+completion, read as prompt_completion",
        "not used   source",
        "trained    16 of 64 tokens, 25.0 %",
        "cut        0 rows at max_seq_length 1,024",
        "left out   0 rows",
        "begin      with <s> once: all",
        "end        with </s>: all",
    ]


def test_of_many_rows_the_first_thousand_are_looked_at_unless_all_are_asked_for(shown):
    rows = [{"text": "a"}] * 1234
    assert "the first 1,000 of 1,234 training rows" in shown(rows, "-n", "1")
    assert "all 1,234 training rows" in shown(rows, "-n", "1", "--all")
    assert "the first 1,100 of 1,234" in shown(rows, "-n", "1100")


def test_rows_that_are_cut_or_train_nothing_are_counted_and_marked(shown):
    rows = [{"prompt": "a b c d", "completion": "e"}, {"prompt": "a", "completion": "b c d e"}]
    out = shown(rows, "--max-seq-length=4")
    assert "row 1 · cut at max_seq_length 4 · left out of the run · 4 tokens, 0 trained" in out
    assert "row 2 · cut at max_seq_length 4 · 4 tokens, 2 trained" in out
    assert "cut        2 rows at max_seq_length 4" in out
    assert "left out   1 row; in 1 nothing is trained" in out
    assert "\nend " not in out


def test_where_nothing_at_all_is_trained_it_says_that_a_run_is_refused(shown):
    assert "0 of 16 tokens, 0.0 %: a run is refused" in shown(ASKED, "--max-seq-length=2")


def test_of_a_preference_both_answers_are_shown_after_the_prompt(shown):
    out = shown(PAIRS, "--algorithm=dpo", backend=FakeBackend(["dpo"], cells=CELLS))
    assert out.split("\n\n")[0].splitlines() == [
        "row 1 · chosen, 5 tokens, 3 trained",
        "  │ ‹<s>›Say [[yes please ‹</s>›]]",
        "      · rejected, 4 tokens, 2 trained",
        "  │ ‹<s>›Say [[no ‹</s>›]]",
    ]


def test_of_prompts_nothing_is_trained_and_it_says_what_is(shown):
    rows = [{"prompt": "Say yes", "answer": "yes"}] * 32
    flags = ["--algorithm=grpo", "--reward-functions=exact_match"]
    out = shown(rows, *flags, backend=FakeBackend(["grpo"], cells=CELLS))
    assert "row 1 · prompt, 3 tokens, 0 trained" in out
    assert "trained    what the model answers to the prompts" in out
    assert "rewards    get answer" in out


def test_as_data_it_says_the_same(data):
    found = data(ASKED, "-n", "1")
    (row,) = found["rows"]
    trained = [token for token in row["parts"]["row"] if token["trained"]]
    assert [(token["text"], token["special"]) for token in trained] == [("1 ", False), ("</s>", True)]
    assert row["parts"]["row"][0] == {"id": 0, "text": "<s>", "trained": False, "special": True}
    assert found["summary"] == {
        "rows": 8, "looked_at": 8, "tokens": 64, "trained": 16, "share": 0.25, "longest": 8, "max_seq_length": 1024,
        "cut": 0, "left_out": 0, "nothing_trained": 0, "labelled": 0,
    }  # fmt: skip
    assert (found["columns"]["used"], found["columns"]["unused"]) == (["prompt", "completion"], ["source"])
    assert found["bos"] == {"id": 0, "text": "<s>", "sequences": 8, "once": 8, "without": 0, "doubled": 0}
    assert found["end"] == {"sequences": 8, "ended": [{"id": 1, "text": "</s>", "sequences": 8}], "unended": 0}


def test_several_data_sets_are_looked_at_as_one(data, in_tmp):
    (in_tmp / "other.jsonl").write_text(json.dumps({"prompt": "Why?", "completion": "So.", "of": "me"}), "utf-8")
    found = data(ASKED, "--dataset-name=rows.jsonl,other.jsonl")
    assert found["summary"]["rows"] == 9
    assert found["columns"]["unused"] == ["source", "of"]


def test_of_rows_that_are_streamed_nobody_knows_how_many_there_are(shown):
    out = shown(ASKED, "--streaming", "--max-steps=1")
    assert "looked at  the first 8 training rows; the longest has 8 tokens\n" in out
    assert "row 1 · 8 tokens, 2 trained" in out


def test_the_labels_of_words_are_counted_and_end_nothing(shown):
    rows = [{"tokens": ["a", "b"], "labels": ["X", "O"]}] * 2
    cells = {("token_classification", "causal_lm"): Support("full")}

    class Tags(FakeBackend):
        @hookimpl
        def build_preview(self, request: TrainRequest) -> Any:
            made = super().build_preview(request)
            shown = {"rows": lambda given: [_tagged() for _ in given], "texts": lambda ids: ["w "] * len(ids)}
            return replace(made, longest=7, **shown)

    out = shown(rows, backend=Tags(cells=cells))
    assert "  label: a=X b=O\n" in out
    assert "trained    a label for each of 4 words in 2 rows\ncut        0 rows at max_seq_length 7\n" in out
    assert "\nend" not in out


def _tagged() -> RowPreview:
    return RowPreview(parts={"row": RowTokens([0, 2, 3], [-100, 1, 0])}, label="a=X b=O")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("tokenizer", "the tokenizer's own"),
        ("chat_template", "given by chat_template"),
        ("plain", "the plain format, for the tokenizer has none"),
    ],
)
def test_it_says_where_the_template_is_from(shown, source, text):
    rows = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}]
    backend = Bent(lambda preview: replace(preview, template=source))
    assert f"template   {text}" in shown(rows, backend=backend)


def _every_row(ids: list[int], **options: Any) -> Callable[[Preview], Preview]:
    """A preview of rows that are all the same, of the words a, newline and an escape."""
    words = {0: "<s>", 1: "</s>", 2: "a", 3: "one\ntwo\t", 4: "\x1b[2J", 5: " "}
    row = RowPreview(parts={"row": RowTokens(ids, ids)}, **options)

    def change(preview: Preview) -> Preview:
        return replace(preview, rows=lambda rows: [row] * len(rows), texts=lambda given: [words[i] for i in given])

    return change


def test_new_lines_and_tabs_are_seen_and_a_terminal_is_sent_nothing_that_it_acts_on(shown):
    out = shown([{"text": "a", "\x1b[31m": "red"}], backend=Bent(_every_row([3, 4], label="\x07")))
    assert "  │ [[one↵\n  │ two⇥\\x1b[2J]]\n  label: \\x07\n" in out
    assert "not used   \\x1b[31m\n" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("ids", "line"),
    [
        ([0, 0, 2, 1], "begin      with <s> more than once: all"),
        ([2, 1], "begin      without <s>: all"),
        ([0, 2], "end        with no token that ends something: all"),
        ([0, 2, 1, 5], "end        with </s>: all"),
    ],
    ids=["two beginnings", "no beginning", "no end", "white space after the end"],
)
def test_beginnings_and_ends_are_told(shown, ids, line):
    assert line in shown([{"text": "a"}], backend=Bent(_every_row(ids))).splitlines()


def test_a_label_is_shown_with_its_row(shown, data):
    backend = Bent(_every_row([2], label="good"))
    out = shown([{"text": "a"}], backend=backend)
    assert "  label: good\n" in out
    assert "trained    a label for each of 1 row\n" in out
    assert data([{"text": "a"}], backend=backend)["rows"][0]["label"] == "good"


def test_in_a_terminal_trained_text_is_green_and_nothing_is_in_brackets(shown, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = shown(ASKED, "-n", "1")
    assert "\x1b[1;32m1 \x1b[0m" in out
    assert "[[" not in out


def test_no_color_is_honoured(shown, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    out = shown(ASKED, "-n", "1")
    assert "[[1 ‹</s>›]]" in out
    assert "\x1b[3" not in out


def test_settings_come_from_a_file_and_flags_win(shown):
    Path("run.yaml").write_text("max_seq_length: 3\n", "utf-8")
    assert "cut        8 rows at max_seq_length 3" in shown(ASKED, "run.yaml")
    assert "cut        8 rows at max_seq_length 4" in shown(ASKED, "run.yaml", "--max-seq-length=4")


def test_a_folder_that_holds_a_run_is_no_obstacle(shown):
    Path("run").mkdir()
    Path("run/run.json").write_text('{"status": "finished"}', "utf-8")
    assert "row 1" in shown(ASKED, "--output-dir=run")


def test_a_backend_without_the_hook_is_refused_in_one_line(cli):
    code, out, err = cli(ASKED, backend=Untold())
    assert (code, out) == (3, "")
    assert "error: backend = 'fake': the plugin (" in err
    assert "has no hook build_preview, so its rows cannot be shown; preview with another backend" in err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda preview: 1, "build_preview() gave int, which is no Preview"),
        (lambda preview: replace(preview, rows=lambda rows: []), "a preview has 0 entries for 8 rows"),
        (lambda preview: replace(preview, rows=lambda rows: [1] * 8), "a preview has a int, which is no RowPreview"),
        (lambda preview: replace(preview, texts=lambda ids: []), "a preview has 0 texts for"),
        (
            lambda preview: replace(preview, rows=lambda rows: [RowPreview(parts={"row": RowTokens([1], [])})] * 8),
            "a preview has a part 'row' of 1 tokens and 0 labels",
        ),
    ],
    ids=["another value", "too few rows", "other rows", "too few texts", "too few labels"],
)
def test_what_a_plugin_gives_is_checked_and_the_plugin_is_named(cli, change, words):
    code, _, err = cli(ASKED, backend=Bent(change))
    assert code == 3
    assert words in err
    assert "Traceback" not in err
