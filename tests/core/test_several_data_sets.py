"""Several data sets as one, and that what is read is what stands in the files now."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligntune_core.config import CONFIGS, Layer, SftConfig, build_config
from aligntune_core.data.formats import FORMATS
from aligntune_core.data.mixing import Part, join
from aligntune_core.data.read import Rows, load_rows
from aligntune_core.data.reading import Reading
from aligntune_core.errors import ConfigError, DataError


def load(**settings: Any) -> Rows:
    return load_rows(build_config(SftConfig, [Layer(settings)]))


def texts(rows: Rows) -> list[str]:
    return list(rows.train["text"])


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    """Ten rows of a and thirty of b."""
    sizes = {"a": 10, "b": 30}
    return [write(tmp_path / f"{n}.jsonl", [{"text": f"{n}{i}"} for i in range(sizes[n])]) for n in sizes]


def test_several_data_sets_follow_each_other(two: list[str]) -> None:
    rows = load(dataset_name=two)
    assert texts(rows) == [*(f"a{i}" for i in range(10)), *(f"b{i}" for i in range(30))]
    assert rows.summary()["source"] == ", ".join(two)
    assert rows.summary()["rows"] == 40


def test_a_flag_names_them_with_commas(two: list[str]) -> None:
    assert texts(load(dataset_name=",".join(two))) == texts(load(dataset_name=two))


def test_a_comma_in_the_name_of_a_file_is_part_of_it(tmp_path: Path) -> None:
    assert texts(load(dataset_name=write(tmp_path / "one, two.jsonl", [{"text": "x"}]))) == ["x"]


def test_a_pattern_names_files(two: list[str], tmp_path: Path) -> None:
    assert texts(load(dataset_name=str(tmp_path / "*.jsonl"))) == texts(load(dataset_name=two))
    with pytest.raises(DataError, match="this pattern has no JSONL"):
        load(dataset_name=str(tmp_path / "*.csv"))


def test_weights_mix_them_and_no_row_comes_twice(two: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aligntune"):
        found = texts(load(dataset_name=two, dataset_weights=[1, 1]))
    used = Counter(text[0] for text in found)
    assert max(Counter(found).values()) == 1
    assert used["a"] == 10  # until one is used up
    assert found != sorted(found)
    assert f"{two[0]}: 10 of 10 rows are used" in caplog.text
    assert f"{two[1]}: {used['b']} of 30 rows are used" in caplog.text


def test_weights_decide_how_often_each_is_drawn(two: list[str]) -> None:
    few, many = (Counter(t[0] for t in texts(load(dataset_name=two, dataset_weights=w))) for w in ([9, 1], [1, 9]))
    assert few["b"] < few["a"] == 10
    assert many["b"] == 30 > many["a"]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0.1, 0.25, 0.3, 1, 2, 7])), min_size=2, max_size=2),
    st.integers(0, 3),
)
def test_shares_are_those_of_the_weights_at_every_length(sets: list[tuple[int, float]], seed: int) -> None:
    (sizes, weights), total = zip(*sets, strict=True), sum(weight for _, weight in sets)
    reading = Reading(FORMATS["answers"][-1], {"text": "text"})
    parts = [Part(str(n), reading, [{"text": n}] * size, "text") for n, size in enumerate(sizes)]
    drawn = [row["text"] for row in join(parts, weights, seed)]
    for length in range(1, len(drawn) + 1):
        assert abs(drawn[:length].count(0) - weights[0] / total * length) <= 0.5 + 1e-9
    assert any(drawn.count(n) == size for n, size in enumerate(sizes))  # one is used up


def test_few_rows_are_shared_as_exactly_as_many(tmp_path: Path) -> None:
    names = [write(tmp_path / f"{n}.jsonl", [{"text": n}] * size) for n, size in (("a", 24), ("b", 6))]
    for seed in range(4):
        assert Counter(texts(load(dataset_name=names, dataset_weights=[3, 1], seed=seed))) == {"a": 18, "b": 6}


def test_the_draw_is_the_seeds(two: list[str]) -> None:
    first, again, other = (texts(load(dataset_name=two, dataset_weights="1,1", seed=s)) for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset_weights": [1, 2, 3]}, "there are 2 data sets for 3 weights"),
        ({"dataset_weights": [1, 0]}, "must be greater than 0"),
        ({"dataset_name": "a.jsonl", "dataset_weights": [1]}, "has no effect without several data sets"),
    ],
)
def test_weights_that_do_not_fit_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_config(SftConfig, [Layer({"dataset_name": ["a.jsonl", "b.jsonl"], **settings})])


def test_formats_that_agree_after_shaping_mix(tmp_path: Path) -> None:
    asked, answered = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
    names = [
        write(tmp_path / "a.jsonl", [{"messages": [asked, answered]}]),
        write(tmp_path / "b.jsonl", [{"question": "Hi", "answer": "Hello"}]),
        write(tmp_path / "c.jsonl", [{"instruction": "Hi", "output": "Hello", "tools": [{"name": "f"}]}]),
    ]
    rows = load(dataset_name=names)
    assert [row["messages"] for row in rows.train] == [[asked, answered]] * 3
    assert [row["tools"] for row in rows.train] == [None, None, [{"name": "f"}]]
    assert (rows.shape, rows.task) == ("messages", "chat_completion")


def test_formats_that_do_not_agree_are_refused_with_both(two: list[str], tmp_path: Path) -> None:
    other = write(tmp_path / "c.jsonl", [{"question": "Hi", "answer": "Hello"}])
    with pytest.raises(DataError) as caught:
        load(dataset_name=[two[0], other])
    assert all(part in str(caught.value) for part in (two[0], other, "text rows", "messages rows"))


def test_a_mapping_counts_where_its_column_is(two: list[str], tmp_path: Path) -> None:
    other = write(tmp_path / "c.jsonl", [{"body": "x"}])
    assert texts(load(dataset_name=[two[0], other], column_mapping={"text": "body"}))[-1] == "x"


def test_max_samples_counts_all_together(two: list[str], caplog: pytest.LogCaptureFixture) -> None:
    assert len(texts(load(dataset_name=two, max_samples=12))) == 12
    assert f"{two[1]}: 2 of 30 rows are used" in caplog.text


def test_evaluation_rows_of_another_shape_are_refused(two: list[str], tmp_path: Path) -> None:
    other = write(tmp_path / "c.jsonl", [{"question": "Hi", "answer": "Hello"}])
    with pytest.raises(DataError, match="its rows are messages, those to train on text"):
        load(dataset_name=two[0], eval_dataset_name=other)


def test_the_digest_is_that_of_all_files(two: list[str]) -> None:
    both, turned, one = (load(dataset_name=names).sha256 for names in (two, two[::-1], two[0]))
    assert len({both, turned, one}) == 3
    assert both == load(dataset_name=two).sha256


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_a_file_that_changed_but_for_its_size_and_time_is_read_anew(tmp_path: Path, suffix: str) -> None:
    def put(text: str) -> None:
        if suffix == "parquet":
            import datasets

            datasets.Dataset.from_list([{"text": text}]).to_parquet(str(path))
        else:
            row = json.dumps({"text": text})
            path.write_text({"jsonl": row + "\n", "json": f"[{row}]", "csv": f"text\n{text}\n"}[suffix], "utf-8")

    path = tmp_path / f"rows.{suffix}"
    put("before")
    assert texts(load(dataset_name=str(path))) == ["before"]
    old = path.stat()
    put("behind")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)
    assert texts(load(dataset_name=str(path))) == ["behind"]


def test_keys_that_come_late_in_a_long_file_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library infers what stands in a file from its beginning."""
    asked, answered = {"role": "user", "content": "Hi " * 4000}, {"role": "assistant", "content": "Hello"}
    call = {"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    rows = [{"messages": [asked, answered]}] * 900 + [{"messages": [asked, {**answered, "tool_calls": [call]}]}]
    last = load(dataset_name=write(tmp_path / "long.jsonl", rows)).train[-1]
    assert last["messages"][1]["tool_calls"] == [call]


def test_prompts_of_several_data_sets_are_numbered_through(tmp_path: Path) -> None:
    names = [write(tmp_path / f"{n}.jsonl", [{"prompt": n}, {"prompt": n * 2}]) for n in "ab"]
    config = build_config(CONFIGS["grpo"], [Layer({"dataset_name": names, "reward_functions": "numeric_match"})])
    assert [(row["prompt"], row["aligntune_row"]) for row in load_rows(config).train] == [
        ("a", 1), ("aa", 2), ("b", 3), ("bb", 4),
    ]  # fmt: skip
