"""Rows: what is recognised and said, how they are shaped, and that no file of the user's is touched."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from aligntune_core.config import Layer, SftConfig, build_config
from aligntune_core.data.read import Rows, load_rows
from aligntune_core.errors import AlignTuneError, ConfigError, DataError

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SHAPES: dict[str, tuple[dict[str, Any], str, str, dict[str, Any]]] = {
    "text": ({"text": "abc"}, "text", "text_generation", {"text": "abc"}),
    "prompt and completion": (
        {"prompt": "1+1=", "completion": "2"},
        "prompt_completion",
        "instruction_following",
        {"prompt": "1+1=", "completion": "2"},
    ),
    "messages": ({"messages": CHAT}, "messages", "chat_completion", {"messages": CHAT, "context": 0}),
    "prompt and completion as messages": (
        {"prompt": CHAT[:1], "completion": CHAT[1:]},
        "messages",
        "instruction_following",
        {"messages": CHAT, "context": 1},
    ),
    "instruction and output": (
        {"instruction": "Hi", "output": "Hello"},
        "messages",
        "instruction_following",
        {"messages": CHAT, "context": 1},
    ),
    "instruction, input and output": (
        {"instruction": "Add", "input": "1 1", "output": "2"},
        "messages",
        "instruction_following",
        {
            "messages": [{"role": "user", "content": "Add\n\n1 1"}, {"role": "assistant", "content": "2"}],
            "context": 1,
        },
    ),
}
ROWS = [{"prompt": f"q{n} ", "completion": f"a{n}"} for n in range(20)]


def load(rows: Any = None, eval_rows: Any = None, **settings: Any) -> Rows:
    return load_rows(build_config(SftConfig, [Layer(settings)]), rows, eval_rows)


def refusal(rows: Any = None, **settings: Any) -> AlignTuneError:
    with pytest.raises((DataError, ConfigError)) as caught:
        load(rows, **settings)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


# what is recognised


@pytest.mark.parametrize("kind", SHAPES)
def test_each_row_format_is_recognised_shaped_and_said(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    row, shape, task, given = SHAPES[kind]
    with caplog.at_level(logging.INFO, "aligntune"):
        rows = load([row] * 3)
    assert (rows.shape, rows.task, rows.train[0]) == (shape, task, given)
    assert f"3 rows, read as {kind.split()[0].rstrip(',')}" in caplog.text


def test_columns_that_are_not_used_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aligntune"):
        load([{"text": "a", "id": 1, "url": "b"}])
    assert "columns not used: id, url" in caplog.text


def test_unknown_columns_are_refused_with_what_is_read() -> None:
    error = refusal([{"q": "a", "a": "b"}])
    assert "a, q" in error.problem
    assert "column_mapping" in error.remedy


# settings about rows


def test_column_mapping_is_ours_to_theirs() -> None:
    rows = load([{"q": "1+1=", "a": "2"}], column_mapping={"prompt": "q", "completion": "a"})
    assert rows.train[0] == {"prompt": "1+1=", "completion": "2"}


@pytest.mark.parametrize("mapping", [{"promt": "q"}, {"prompt": "nowhere"}])
def test_a_mapping_that_fits_nothing_is_refused(mapping: dict[str, str]) -> None:
    assert refusal([{"q": "1", "a": "2"}], column_mapping=mapping).field == "column_mapping"


def test_a_system_prompt_comes_first_unless_there_is_one() -> None:
    own = [{"role": "system", "content": "Own"}, *CHAT]
    rows = load([{"messages": CHAT}, {"messages": own}], system_prompt="Be kind")
    assert [row["messages"][0]["content"] for row in rows.train] == ["Be kind", "Own"]
    assert [row["context"] for row in rows.train] == [1, 0]


def test_a_system_prompt_that_plain_rows_cannot_hold_is_refused() -> None:
    assert refusal(ROWS, system_prompt="Be kind").field == "system_prompt"


def test_max_samples_takes_the_first_rows() -> None:
    assert load(ROWS, max_samples=3).train["prompt"][:] == ["q0 ", "q1 ", "q2 "]
    assert len(load(ROWS, max_samples=99).train) == 20


def test_eval_fraction_holds_rows_back_by_the_seed() -> None:
    first, again, other = (load(ROWS, eval_fraction=0.25, seed=seed) for seed in (1, 1, 2))
    assert (len(first.train), len(first.eval)) == (15, 5)
    assert sorted([*first.train["prompt"], *first.eval["prompt"]]) == sorted(row["prompt"] for row in ROWS)
    assert list(first.eval["prompt"]) == list(again.eval["prompt"]) != list(other.eval["prompt"])


def test_a_second_data_set_is_evaluated_on(tmp_path: Path) -> None:
    rows = load(ROWS, eval_dataset_name=jsonl(tmp_path / "held.jsonl", ROWS[:2]))
    assert (len(rows.train), len(rows.eval)) == (20, 2)


def test_a_split_can_be_sliced(tmp_path: Path) -> None:
    name = jsonl(tmp_path / "d.jsonl", ROWS)
    assert load(dataset_name=name, split="train[:5]").train["prompt"][:] == [f"q{n} " for n in range(5)]
    assert len(load(dataset_name=name, split="train[:50%]").train) == 10


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(dataset_name=jsonl(tmp_path / "d.jsonl", ROWS), split="tain").field == "split"


# where rows come from


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows in the format that the file's name says."""
    kind = path.suffix.lower()
    if kind == ".jsonl":
        jsonl(path, rows)
    elif kind == ".json":
        path.write_text(json.dumps(rows, indent=1), "utf-8")
    elif kind == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        import datasets

        datasets.Dataset.from_list(rows).to_parquet(str(path))


@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.csv", "d.parquet", "UPPER.JSONL"])
def test_every_kind_of_file_gives_the_same_rows_and_is_not_touched(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path, ROWS)
    before = path.read_bytes(), path.stat().st_mtime_ns
    rows = load(dataset_name=str(path))
    assert list(rows.train) == ROWS
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_folder_of_files_is_one_data_set(tmp_path: Path) -> None:
    jsonl(tmp_path / "b.jsonl", ROWS[10:])
    jsonl(tmp_path / "a.jsonl", ROWS[:10])
    assert list(load(dataset_name=str(tmp_path)).train) == ROWS


def test_a_folder_of_two_kinds_is_refused(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.csv"):
        write(tmp_path / name, ROWS)
    assert "mixes csv and json" in refusal(dataset_name=str(tmp_path)).problem


def test_text_that_looks_like_a_number_stays_text_in_csv(tmp_path: Path) -> None:
    write(tmp_path / "d.csv", [{"prompt": "007", "completion": "NA"}, {"prompt": "1e3", "completion": "null"}])
    assert list(load(dataset_name=str(tmp_path / "d.csv")).train) == [
        {"prompt": "007", "completion": "NA"},
        {"prompt": "1e3", "completion": "null"},
    ]


def test_the_digest_changes_with_the_content_only(tmp_path: Path) -> None:
    name = jsonl(tmp_path / "d.jsonl", ROWS)
    first, again = load(dataset_name=name).sha256, load(dataset_name=name, max_samples=2).sha256
    jsonl(tmp_path / "d.jsonl", ROWS[1:])
    assert first == again != load(dataset_name=name).sha256
    in_memory = load(ROWS).summary()
    assert (in_memory["source"], in_memory["rows"]) == ("in memory", 20)
    assert in_memory["sha256"] == load(ROWS).sha256 != load(ROWS[:-1]).sha256


# what is wrong with rows


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "q", "completion": None}, "column 'completion': null"),
        ({"prompt": "q"}, "column 'completion': null"),
    ],
)
def test_a_bad_row_is_named_by_number_and_column(row: dict[str, Any], words: str) -> None:
    assert f"row 21, {words}" in refusal([*ROWS, row]).problem


@pytest.mark.parametrize(
    "messages",
    [[], [{"role": "user", "content": "Hi"}], [{"role": "boss", "content": "Hi"}], [{"role": "user", "content": None}]],
)
def test_a_conversation_without_sense_is_refused(messages: list[dict[str, Any]]) -> None:
    assert "row 2, " in refusal([{"messages": CHAT}, {"messages": messages}]).problem


def test_many_bad_rows_are_counted() -> None:
    assert "and 15 more rows" in refusal([{"text": None, "x": n} for n in range(20)] + [{"text": "a", "x": 1}]).problem


def test_rows_that_mostly_train_nothing_are_refused_and_a_few_are_told(caplog: pytest.LogCaptureFixture) -> None:
    empty = {"prompt": "q", "completion": ""}
    assert "2 of 3 rows have nothing to train" in refusal([empty, empty, ROWS[0]]).problem
    load([empty, *ROWS])
    assert "1 of 21 rows have nothing to train" in caplog.text
