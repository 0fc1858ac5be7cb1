"""Streaming: rows are read as they are trained, in an order that the seed decides, and none is kept."""

from __future__ import annotations

import json
import logging
import tracemalloc
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from aligntune_core.config import DpoConfig, Layer, SftConfig, build_config
from aligntune_core.data import stream
from aligntune_core.data.read import Rows, load_rows
from aligntune_core.errors import AlignTuneError, ConfigError, DataError

ASKED = [{"question": f"q{n}", "answer": f"a{n}"} for n in range(30)]


def load(**settings: Any) -> Rows:
    return load_rows(build_config(SftConfig, [Layer({"streaming": True, "max_steps": 1, **settings})]))


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def questions(rows: Any, count: int) -> list[str]:
    return [row["messages"][0]["content"] for row in islice(rows.train.endless(), count)]


@pytest.fixture
def asked(tmp_path: Path) -> str:
    return write(tmp_path / "asked.jsonl", ASKED)


@pytest.fixture
def small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BUFFER", 8)


@pytest.mark.usefixtures("small_buffer")
def test_every_row_comes_once_in_each_pass_and_in_another_order(asked: str) -> None:
    found = questions(load(dataset_name=asked), 90)
    passes = [found[:30], found[30:60], found[60:]]
    assert [sorted(one) for one in passes] == [sorted(row["question"] for row in ASKED)] * 3
    assert len({tuple(one) for one in passes}) == 3


@pytest.mark.usefixtures("small_buffer")
def test_the_order_is_the_seeds_and_the_same_each_time(asked: str) -> None:
    rows = load(dataset_name=asked)
    first, again, other = questions(rows, 70), questions(rows, 70), questions(load(dataset_name=asked, seed=1), 70)
    assert first == again == questions(load(dataset_name=asked), 70) != other


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_streamed_rows_are_the_rows_that_are_read_whole(tmp_path: Path, suffix: str) -> None:
    import datasets

    path = tmp_path / f"rows.{suffix}"
    table = datasets.Dataset.from_list(ASKED)
    {"jsonl": table.to_json, "csv": table.to_csv, "parquet": table.to_parquet}[suffix](str(path))
    whole = load_rows(build_config(SftConfig, [Layer({"dataset_name": str(path)})]))
    streamed = load(dataset_name=str(path))
    assert list(streamed.train) == list(whole.train)
    assert (streamed.shape, streamed.task, streamed.sha256) == (whole.shape, whole.task, whole.sha256)
    assert streamed.summary()["rows"] is None


def test_tools_that_only_later_rows_have_come_as_they_are(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": None}}}
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    called = [talk[0], {"role": "assistant", "content": "", "tool_calls": [call]}]
    rows = [{"messages": talk}] * 150 + [{"messages": called, "tools": [{"name": "f"}]}]
    last = list(load(dataset_name=write(tmp_path / "rows.jsonl", rows)).train)[-1]
    assert last == {"messages": called, "context": 0, "tools": [{"name": "f"}]}


def test_several_data_sets_are_streamed_one_after_the_other(asked: str, tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    other = write(tmp_path / "other.jsonl", [{"messages": talk}])
    rows = list(load(dataset_name=[asked, other]).train)
    assert [len(rows), rows[-1]["messages"]] == [31, talk]


def test_max_samples_takes_the_first_rows(asked: str) -> None:
    assert sorted(questions(load(dataset_name=asked, max_samples=3), 6)) == ["q0", "q0", "q1", "q1", "q2", "q2"]


def test_column_mapping_counts_for_streams(tmp_path: Path) -> None:
    name = write(tmp_path / "rows.jsonl", [{"q": "1+1=", "a": "2", "prompt": "no"}])
    rows = load(dataset_name=name, column_mapping={"prompt": "q", "completion": "a"})
    assert next(iter(rows.train)) == {"prompt": "1+1=", "completion": "2"}


def test_evaluation_rows_are_read_whole(asked: str, tmp_path: Path) -> None:
    assert len(load(dataset_name=asked, eval_dataset_name=write(tmp_path / "e.jsonl", ASKED[:4])).eval) == 4


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def most(count: int) -> int:
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as file:
            file.writelines(json.dumps({"text": f"{n} " + "word " * 100}) + "\n" for n in range(count))
        rows = load(dataset_name=str(path))
        tracemalloc.start()
        for _ in islice(rows.train.endless(), count):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    few, many = most(2_000), most(20_000)
    assert many < 1.2 * few


# what is refused


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"question": "q", "answer": None}, "row 201, column 'answer': null, expected text"),
        ({"question": "q"}, "row 201, column 'answer': null, expected text"),
    ],
)
def test_a_bad_row_is_named_when_it_is_met(tmp_path: Path, bad: dict[str, Any], words: str) -> None:
    rows = load(dataset_name=write(tmp_path / "rows.jsonl", [*(ASKED[:1] * 200), bad]))
    with pytest.raises(DataError) as caught:
        list(rows.train)
    assert words in caught.value.problem
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("line", ['{"text": "a', "[1]", '{"text": "\\ud83d"}', "[" * 100_000, '{"text": "x"} y'])
def test_a_line_has_the_same_fault_whether_it_is_streamed_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x"}\n' * 150 + line + '\n{"text": "x"}\n', "utf-8")
    with pytest.raises(DataError) as whole:
        load_rows(build_config(SftConfig, [Layer({"dataset_name": str(path)})]))
    monkeypatch.setattr("aligntune_core.data.heads.SCANNED", 10)
    with pytest.raises(DataError) as streamed:
        list(load(dataset_name=str(path)).train)
    assert str(streamed.value) == str(whole.value)


def test_a_bad_line_beyond_what_is_checked_is_named(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aligntune_core.data.heads.SCANNED", 10)
    path = Path(asked)
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([*lines * 5, "{'no'}", lines[0]]) + "\n", "utf-8")
    with pytest.raises(DataError, match="line 151 is not JSON"):
        list(load(dataset_name=asked).train)


def test_rows_without_an_answer_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"prompt": "p", "completion": "" if n % 100 == 99 else "c"} for n in range(1000)]
    with caplog.at_level(logging.WARNING, "aligntune"):
        list(load(dataset_name=write(tmp_path / "rows.jsonl", rows)).train)
    assert caplog.text.count("has nothing to train") == 5
    assert "row 200 of " in caplog.text


def test_mostly_empty_rows_are_refused(tmp_path: Path) -> None:
    name = write(tmp_path / "rows.jsonl", [{"prompt": "p", "completion": ""}] * 3)
    with pytest.raises(DataError, match="3 of 3 rows have nothing to train"):
        load(dataset_name=name)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"max_steps": None}, "max_steps"),
        ({"eval_fraction": 0.5}, "eval_fraction"),
        ({"packing": True}, "packing"),
        ({"dataset_name": ["a", "b"], "dataset_weights": [1, 1]}, "dataset_weights"),
        ({"split": "train[:5]"}, "split"),
    ],
)
def test_what_a_stream_cannot_do_is_refused(asked: str, settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**{"dataset_name": asked, **settings})
    assert [problem.field for problem in caught.value.problems] == [field]


def test_a_list_in_one_piece_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ASKED), "utf-8")
    with pytest.raises(DataError, match="is one list, which can only be read whole"):
        load(dataset_name=str(tmp_path / "rows.json"))


def test_an_algorithm_that_needs_its_rows_at_hand_has_no_such_setting() -> None:
    with pytest.raises(
        AlignTuneError, match="streaming = True: dpo has no such setting; leave it out; it belongs to sft"
    ):
        build_config(DpoConfig, [Layer({"streaming": True, "max_steps": 1})])
