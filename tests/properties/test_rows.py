"""Whatever rows come in: an error that names a row or the columns, or rows of one shape that all have an answer."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aligntune_core.config import Layer, SftConfig, build_config
from aligntune_core.data.read import Rows, load_rows
from aligntune_core.errors import ConfigError, DataError

KEYS = ("role", "content", "from", "value", "tool_calls", "name", "weight")
COLUMNS = (
    *("messages", "conversations", "chat", "prompt", "completion", "instruction", "input", "output", "text"),
    *("question", "answer", "response", "content", "system", "tools", "id"),
)
TEXT = st.sampled_from(["", " ", "Hi", "Hello", "[]", '[{"name": "f"}]', "{"])
ROLE = st.sampled_from(["user", "assistant", "system", "tool", "human", "gpt", "function_call", "boss", ""])
NAMED = st.fixed_dictionaries({"name": TEXT}, optional={"arguments": TEXT | st.dictionaries(TEXT, TEXT, max_size=2)})
MESSAGE = st.one_of(
    st.fixed_dictionaries({"role": ROLE, "content": TEXT | st.none()}, optional={"tool_calls": st.lists(NAMED)}),
    st.fixed_dictionaries({"from": ROLE, "value": TEXT}),
    st.dictionaries(st.sampled_from(KEYS), TEXT | st.none() | st.integers(0, 9), max_size=3),
)
VALUE = TEXT | st.lists(MESSAGE, max_size=3) | st.lists(NAMED, max_size=2) | st.none() | st.integers(0, 9)
PLACE = re.compile(r"row \d+, |rows? |columns are |can be read as ")


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of the same columns, most of which have one kind of value."""
    columns = draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=4, unique=True))
    return draw(st.lists(st.fixed_dictionaries(dict.fromkeys(columns, VALUE)), min_size=1, max_size=4))


def shaped(rows: list[dict[str, Any]], system_prompt: str | None = None) -> Rows | DataError | ConfigError:
    """The rows as they are shaped, or how they were refused."""
    try:
        return load_rows(build_config(SftConfig, [Layer({"system_prompt": system_prompt})]), rows)
    except (DataError, ConfigError) as error:
        return error


def check_refusal(error: DataError | ConfigError) -> None:
    assert len(str(error).splitlines()) == 1
    assert error.field == "system_prompt" or PLACE.search(error.problem), error


def check(rows: Rows) -> None:
    for row in rows.train:
        if rows.shape != "messages":
            assert all(isinstance(value, str) for value in row.values())
            continue
        assert 0 <= row["context"] < len(row["messages"])
        assert any(message["role"] == "assistant" for message in row["messages"][row["context"] :])
        for message in row["messages"]:
            assert isinstance(message["content"], str)
            assert None not in message.values()
            assert set(message) <= {"role", "content", "tool_calls", "name", "tool_call_id"}


@settings(max_examples=300)
@given(rows=tables(), system_prompt=st.none() | st.just("Be kind."))
def test_any_rows_are_shaped_or_refused(rows: list[dict[str, Any]], system_prompt: str | None) -> None:
    found = shaped(rows, system_prompt)
    if isinstance(found, DataError | ConfigError):
        check_refusal(found)
        return
    assert len(found.train) == len(rows)
    check(found)


SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}
TALK = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(list(SPEAKERS)), "content": st.text(max_size=9)}), max_size=5
).map(lambda talk: [*talk, {"role": "assistant", "content": "Hello"}])


@given(talks=st.lists(TALK, min_size=1, max_size=4))
def test_a_conversation_means_the_same_in_every_format(talks: list[list[dict[str, str]]]) -> None:
    sharegpt = [[{"from": SPEAKERS[m["role"]], "value": m["content"]} for m in talk] for talk in talks]
    for column, values in (("messages", talks), ("dialogue", talks), ("conversations", sharegpt)):
        found = shaped([{column: value} for value in values])
        assert isinstance(found, Rows)
        assert [row["messages"] for row in found.train] == talks
