"""Rows with an answer under the names that the field uses: what is guessed, what is told, and what is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from aligntune_core.config import Layer, SftConfig, build_config
from aligntune_core.data.read import Rows, load_rows
from aligntune_core.errors import AlignTuneError, ConfigError, DataError

ASKED, ANSWERED = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
CHAT = [ASKED, ANSWERED]
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": [2, None]}}}
OTHER_CALL = {"type": "function", "function": {"name": "find", "arguments": {"words": {"exact": None}}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
OTHER_TOOL = {"name": "find", "parameters": {"default": None, "required": ["words"]}}


def load(rows: Any = None, **settings: Any) -> Rows:
    return load_rows(build_config(SftConfig, [Layer(settings)]), rows)


def refusal(rows: Any, **settings: Any) -> AlignTuneError:
    with pytest.raises((DataError, ConfigError)) as caught:
        load(rows, **settings)
    return caught.value


def row_of(*columns: str) -> dict[str, str]:
    return {column: f"the {column}" for column in columns}


# conversations


def test_sharegpt_becomes_messages() -> None:
    long = [{"from": "system", "value": "Be kind"}, *SHAREGPT, {"from": "observation", "value": "3"}, SHAREGPT[1]]
    row = load([{"conversations": long}]).train[0]
    assert [message["role"] for message in row["messages"]] == ["system", "user", "assistant", "tool", "assistant"]
    assert row["messages"][3]["content"] == "3"


@pytest.mark.parametrize("speaker", ["gpt", "assistant", "chatgpt", "bing", "bard"])
def test_every_usual_name_of_an_assistant_answers(speaker: str) -> None:
    row = load([{"conversations": [{"from": "user", "value": "Hi"}, {"from": speaker, "value": "Hello"}]}]).train[0]
    assert row == {"messages": CHAT, "context": 0}


@pytest.mark.parametrize("column", ["conversations", "conversation", "chat", "dialogue"])
@pytest.mark.parametrize(("talk", "name"), [(CHAT, "messages"), (SHAREGPT, "sharegpt")])
def test_a_conversation_is_known_by_what_stands_in_it(
    column: str, talk: list[dict[str, str]], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "aligntune"):
        rows = load([{column: talk}])
    assert (rows.train[0], rows.task) == ({"messages": CHAT, "context": 0}, "chat_completion")
    assert f"read as {name} from {column}" in caplog.text


def test_a_text_called_dialogue_is_no_conversation() -> None:
    assert "the columns are dialogue, summary" in refusal([row_of("dialogue", "summary")]).problem


def test_a_system_column_comes_first_and_counts_as_context() -> None:
    row = load([{"conversations": SHAREGPT, "system": "Own"}], system_prompt="Everybody's").train[0]
    assert row == {"messages": [{"role": "system", "content": "Own"}, *CHAT], "context": 1}


def test_a_system_column_against_a_system_message_is_refused() -> None:
    row = {"messages": [{"role": "system", "content": "One"}, *CHAT], "system": "Another"}
    assert "row 1, column 'system': the conversation begins with another" in refusal([row]).problem


def test_keys_of_messages_that_are_not_used_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aligntune"):
        load([{"messages": [ASKED, {**ANSWERED, "weight": 0}]}])
    assert "keys of messages not used: weight" in caplog.text


# tools


def tool_rows() -> list[dict[str, Any]]:
    """Calls and schemas of different keys, and a row without any: a table would fill all of them up with None."""
    called = [ASKED, {"role": "assistant", "content": "", "tool_calls": [CALL]}]
    called += [{"role": "tool", "content": "3", "name": "add", "tool_call_id": "x"}, ANSWERED]
    other = [ASKED, {"role": "assistant", "content": "Well", "tool_calls": [OTHER_CALL]}]
    return [
        {"messages": called, "tools": [TOOL, OTHER_TOOL]}, {"messages": other, "tools": [OTHER_TOOL]},
        {"messages": CHAT, "tools": None},
    ]  # fmt: skip


@pytest.mark.parametrize("source", ["memory", "file"])
def test_tools_and_calls_come_out_as_they_went_in(source: str, tmp_path: Path) -> None:
    given = tool_rows()
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in given), "utf-8")
    rows = load(given) if source == "memory" else load(dataset_name=str(path))
    assert list(rows.train) == [{**row, "context": 0} for row in given]


def test_what_a_table_filled_up_with_none_is_taken_out_again() -> None:
    import datasets

    filled = datasets.Dataset.from_list([{k: row[k] for k in ("messages", "tools")} for row in tool_rows()])
    assert filled[2]["messages"][0]["tool_calls"] is None
    row, other, plain = load(filled).train
    assert plain["messages"] == CHAT
    assert row["messages"][1]["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1, "b": [2, None]}}
    assert other["messages"][1]["tool_calls"][0]["function"] == {"name": "find", "arguments": {"words": {}}}
    assert other["tools"] == [{"name": "find", "parameters": {"required": ["words"]}}]


def test_json_text_is_read_as_what_it_says() -> None:
    calls = {"id": "c1", "function": {"name": "add", "arguments": json.dumps(CALL["function"]["arguments"])}}
    called = [ASKED, {"role": "assistant", "content": None, "tool_calls": [calls]}]
    row = {"messages": called, "tools": json.dumps([TOOL])}
    shaped = load([row]).train[0]
    assert shaped["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [{**CALL, "id": "c1"}]}
    assert shaped["tools"] == [TOOL]


def test_a_call_in_sharegpt_is_a_call() -> None:
    words = json.dumps(CALL["function"])
    row = {"conversations": [SHAREGPT[0], {"from": "function_call", "value": words}], "tools": [TOOL]}
    assert load([row]).train[0]["messages"][1]["tool_calls"] == [CALL]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"tool_calls": "add(1)"}, "column 'messages', message 2, tool_calls: the text is not JSON"),
        ({"tool_calls": [{"function": {"arguments": {}}}]}, "message 2, tool_calls: the function has no name"),
        ({"tool_calls": [{"name": "f", "arguments": [1]}]}, "message 2, tool_calls: arguments are a list"),
    ],
)
def test_a_call_that_is_none_is_refused_with_row_and_message(message: dict[str, Any], words: str) -> None:
    row = {"messages": [ASKED, {"role": "assistant", "content": "", **message}]}
    assert words in refusal([{"messages": CHAT}, row]).problem
    assert "row 2, " in refusal([{"messages": CHAT}, row]).problem


def test_tools_without_a_name_are_refused() -> None:
    assert "row 1, column 'tools', tool 1" in refusal([{"messages": CHAT, "tools": [{"parameters": {}}]}]).problem


def test_an_answer_that_only_calls_a_tool_is_something_to_learn() -> None:
    row = {"messages": [ASKED, {"role": "assistant", "content": "", "tool_calls": [CALL]}]}
    assert len(load([row, row]).train) == 2


# other names


@pytest.mark.parametrize(
    ("columns", "shaped"),
    [
        (("question", "answer"), "instruction"),
        (("input", "output"), "instruction"),
        (("instruction", "response"), "instruction"),
        (("query", "response"), "instruction"),
        (("prompt", "response"), "prompt_completion"),
        (("prompt", "answer"), "prompt_completion"),
        (("content",), "text"),
    ],
)
def test_usual_names_are_guessed_and_said(
    columns: tuple[str, ...], shaped: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "aligntune"):
        row = load([row_of(*columns)]).train[0]
    words = [m["content"] for m in row["messages"]] if "messages" in row else list(row.values())
    assert words == [f"the {column}" for column in columns]
    assert f"read as {shaped} from {'+'.join(columns)} (guessed: " in caplog.text
    assert "column_mapping decides otherwise" in caplog.text


def test_what_stands_beside_a_question_is_read_too() -> None:
    row = load([row_of("system_prompt", "question", "context", "response")]).train[0]
    assert [m["content"] for m in row["messages"]] == [
        "the system_prompt", "the question\n\nthe context", "the response",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "both"),
    [
        (("question", "query", "answer"), ("instruction from question+answer", "instruction from query+answer")),
        (("question", "answer", "content"), ("instruction from question+answer", "text from content")),
        (("prompt", "input", "output"), ("prompt_completion from prompt+output", "instruction from input+output")),
    ],
)
def test_two_readings_are_refused_with_both(columns: tuple[str, ...], both: tuple[str, str]) -> None:
    error = refusal([row_of(*columns)])
    assert all(reading in error.problem for reading in both)
    assert "column_mapping" in error.remedy


def test_a_column_without_text_is_not_guessed() -> None:
    assert "the columns are answer, question" in refusal([{"question": "1+1", "answer": 2}]).problem


def test_our_names_win_over_others() -> None:
    assert load([row_of("prompt", "completion", "question", "answer")]).shape == "prompt_completion"


def test_column_mapping_settles_what_can_be_read_twice() -> None:
    row = load([row_of("question", "query", "answer")], column_mapping={"instruction": "query"}).train[0]
    assert row["messages"][0]["content"] == "the query"


def test_column_mapping_wins_over_a_format_that_fits() -> None:
    row = {"messages": CHAT, **row_of("q", "a")}
    assert load([row], column_mapping={"prompt": "q", "completion": "a"}).shape == "prompt_completion"


def test_a_mapping_into_two_formats_is_refused() -> None:
    error = refusal([row_of("q", "a")], column_mapping={"prompt": "q", "output": "a"})
    assert "no format has the columns output and prompt together" in error.problem


def test_a_bad_row_is_told_with_the_name_that_the_column_has() -> None:
    rows = [row_of("question", "answer"), {"question": "q", "answer": None}]
    assert "row 2, column 'answer': null" in refusal(rows).problem


def test_a_column_that_only_later_rows_have_is_kept() -> None:
    rows = load([{"instruction": "a", "output": "b"}, {"instruction": "a", "output": "b", "input": "c"}]).train
    assert rows[1]["messages"][0]["content"] == "a\n\nc"
