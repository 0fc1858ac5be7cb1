"""Which tokens are trained: the labels, decoded."""

from __future__ import annotations

from pathlib import Path

import pytest
from aligntune_trl.generate import end_ids
from aligntune_trl.tokenise import IGNORED, PLAIN_TEMPLATE, Tokeniser, tokenise_dataset
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from aligntune_core import DataError

CHAT = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Ciao"},
]


@pytest.fixture
def tokenizer(tiny: Path):
    return AutoTokenizer.from_pretrained(tiny)


def trained(tokenizer, row, **options) -> str:
    tokens = Tokeniser(tokenizer, **options)([row])[0]
    assert len(tokens.input_ids) == len(tokens.labels)
    return tokenizer.decode([label for label in tokens.labels if label != IGNORED])


def test_of_prompt_and_completion_only_the_completion_and_the_end_are_trained(tokenizer):
    assert trained(tokenizer, {"prompt": "Q: 1+1? ", "completion": "2"}) == "2<|end|>"


def test_an_end_that_is_already_there_is_not_doubled(tokenizer):
    assert trained(tokenizer, {"prompt": "Q", "completion": " 2<|end|>"}) == " 2<|end|>"


def test_of_a_text_every_token_is_trained(tokenizer):
    assert trained(tokenizer, {"text": "one two"}) == "one two<|end|>"


def test_of_a_conversation_every_answer_is_trained_with_its_end_of_turn(tokenizer):
    assert trained(tokenizer, {"messages": CHAT, "context": 0}) == "Hello<|end|>Ciao<|end|>"


def test_messages_of_the_context_are_not_trained(tokenizer):
    assert trained(tokenizer, {"messages": CHAT, "context": 3}) == "Ciao<|end|>"


def test_assistant_only_loss_false_trains_the_whole_conversation(tokenizer):
    whole = trained(tokenizer, {"messages": CHAT[:2], "context": 1}, answers_only=False)
    assert whole == "<|user|>Hi<|end|><|assistant|>Hello<|end|>"


def test_a_tokenizer_without_a_template_gets_the_plain_format(tokenizer):
    tokenizer.chat_template = PLAIN_TEMPLATE
    row = {"messages": [{"role": "system", "content": "Be kind."}, *CHAT], "context": 2}
    tokens = Tokeniser(tokenizer)([row])[0]
    text = "Be kind.\n\nQuestion:\nHi\n\nAnswer:\nHello<|end|>\n\nQuestion:\nBye\n\nAnswer:\nCiao<|end|>"
    assert tokenizer.decode(tokens.input_ids) == text
    assert trained(tokenizer, row) == "Hello<|end|>Ciao<|end|>"


def test_a_plain_question_ends_where_the_answer_begins(tokenizer):
    tokenizer.chat_template = PLAIN_TEMPLATE
    assert Tokeniser(tokenizer).render(CHAT[:1], ask=True) == "Question:\nHi\n\nAnswer:\n"


def test_generation_ends_at_the_end_of_turn_that_was_trained_and_at_the_models_own(tokenizer, tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny)
    model.generation_config.eos_token_id = [7, 9]
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<|user|>{% endfor %}"
    ends = {tokenizer.convert_tokens_to_ids(token) for token in ("<|end|>", "<|user|>")}
    assert set(end_ids(model, tokenizer, chat=True)) == {7, 9, *ends}
    assert set(end_ids(model, tokenizer, chat=False)) == {7, 9, tokenizer.eos_token_id}


def test_a_template_that_rewrites_the_words_of_earlier_turns_is_refused(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m.content if loop.last else m.content[:2] }}{% endfor %}"
    with pytest.raises(DataError, match="differently once more turns follow"):
        Tokeniser(tokenizer)([{"messages": CHAT, "context": 0}])


def test_long_rows_are_cut_and_counted(tokenizer, caplog):

    rows = Dataset.from_list([{"prompt": "a", "completion": "b " * 50}, {"prompt": "a", "completion": "b"}])
    with caplog.at_level("INFO", "aligntune"):
        found = tokenise_dataset(rows, Tokeniser(tokenizer), 8, "dataset_name")
    assert [len(ids) for ids in found["input_ids"]] == [8, 3]
    assert "1 of 2 rows are cut at 8 tokens" in caplog.text


def test_rows_whose_answer_is_cut_away_are_left_out_and_named(tokenizer, caplog):
    rows = Dataset.from_list([{"prompt": "a", "completion": "b"}, {"prompt": "a " * 50, "completion": "b"}])
    with caplog.at_level("WARNING", "aligntune"):
        found = tokenise_dataset(rows, Tokeniser(tokenizer), 8, "dataset_name")
    assert len(found) == 1
    assert "1 of 2 rows are left out, nothing in them is trained: row 2" in caplog.text


def test_a_run_that_would_train_nothing_is_refused(tokenizer):
    rows = Dataset.from_list([{"prompt": "a " * 50, "completion": "b"}])
    with pytest.raises(DataError, match=r"max_seq_length = 8: no row has a trained token.*raise max_seq_length"):
        tokenise_dataset(rows, Tokeniser(tokenizer), 8, "dataset_name")


def test_a_first_token_counts_as_untrained_for_nothing_predicts_it(tokenizer):
    rows = Dataset.from_list([{"text": "a b c"}])
    with pytest.raises(DataError, match="no row has a trained token within 1 tokens"):
        tokenise_dataset(rows, Tokeniser(tokenizer), 1, "dataset_name")
