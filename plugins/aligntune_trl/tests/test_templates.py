"""Chat templates and the tokens that begin and end a row: what is found, mended or refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import trl
from aligntune_trl.pairs import PairTokeniser
from aligntune_trl.prompts import PromptTokeniser
from aligntune_trl.tokenise import IGNORED, Tokeniser
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from aligntune_core import ConfigError, DataError

BOS, END = "<|system|>", "<|end|>"
CHAT = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Ciao"},
]
ROW = {"messages": CHAT, "context": 0}
TEMPLATES = Path(trl.__file__).with_name("chat_templates")
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
TOOL_TEMPLATE = """\
{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif -%}
{% for m in messages %}<|{{ m.role }}|>{{ m.content }}
{%- if m.tool_calls is defined %}{{ m.tool_calls | tojson }}{% endif %}<|end|>{% endfor -%}
{% if add_generation_prompt %}<|assistant|>{% endif %}"""
THINKING = """\
{% for m in messages %}<|{{ m.role }}|>
{%- if m.role == 'assistant' and loop.last %}<think></think>{% endif %}{{ m.content }}<|end|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""
"""Like those of thinking models: the last answer has a part that earlier ones have not."""


@pytest.fixture
def tokenizer(tiny: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny)


@pytest.fixture
def beginning(tokenizer: Any) -> Any:
    """A tokenizer that puts a token before text."""
    tokenizer.bos_token = BOS
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.convert_tokens_to_ids(BOS))]
    )
    assert tokenizer("a").input_ids[0] == tokenizer.bos_token_id
    return tokenizer


def read(tokenizer: Any, row: Any, **options: Any) -> tuple[str, str]:
    """All of a row and the trained part of it, as text."""
    (tokens,) = Tokeniser(tokenizer, **options)([row])
    return tokenizer.decode(tokens.input_ids), tokenizer.decode([t for t in tokens.labels if t != IGNORED])


# the end of a turn


def test_white_space_after_the_end_of_a_turn_is_not_trained(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
    whole, trained = read(tokenizer, {"messages": CHAT[:2], "context": 0})
    assert whole.endswith("Hello<|end|>\n")
    assert trained.endswith("Hello<|end|>")


def test_a_template_that_ends_no_answer_gets_the_end_of_the_sequence_and_that_is_told_once(tokenizer, caplog):
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokeniser = Tokeniser(tokenizer)
    for tokens in tokeniser([{"messages": CHAT[:2], "context": 0}, ROW]):
        assert tokens.labels[-1] == tokenizer.eos_token_id
    assert caplog.text.count("the chat template writes no token that ends an answer: <|end|> is put") == 1


def test_both_answers_of_a_preference_get_the_same_end(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    row = {"prompt": CHAT[:1], "chosen": CHAT[1:2], "rejected": CHAT[3:]}
    (pair,) = PairTokeniser(tokenizer)([row])
    assert pair.chosen_ids[-1] == pair.rejected_ids[-1] == tokenizer.eos_token_id


def test_a_plain_template_of_a_tokenizer_without_an_end_writes_none(tokenizer):
    from aligntune_core.config.template import PLAIN

    tokenizer.eos_token, tokenizer.chat_template = None, PLAIN
    assert read(tokenizer, ROW)[1] == "HelloCiao"


@pytest.mark.parametrize("alike", [True, False], ids=["pad is the end", "pad is another token"])
def test_the_end_is_trained_in_each_batch_even_where_padding_is_the_same_token(make, tiny, tmp_path, alike):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    model = copytree(tiny, tmp_path / "model")
    if alike:
        tokenizer.pad_token = tokenizer.eos_token
        tokenizer.save_pretrained(model)
    with make(model_name=str(model)) as trainer:
        assert (trainer.resolved["pad_token"] == END) is alike
        batch = next(iter(trainer.native.get_train_dataloader()))
    for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        last = int(mask.sum()) - 1
        assert ids[last] == labels[last] == tokenizer.eos_token_id
        assert (labels[last + 1 :] == IGNORED).all()
    assert not batch["attention_mask"].all()


def test_both_answers_of_a_pair_end_trained_where_padding_is_the_end(align, micro, tmp_path):
    model = copytree(micro, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(micro)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(model)
    rows = [
        {"prompt": "a b", "chosen": " c", "rejected": " d e f"},
        {"prompt": "a", "chosen": " c d", "rejected": " e"},
    ]
    with align("dpo", model_name=str(model), train_dataset=rows, batch_size=2) as trainer:
        batch = next(iter(trainer.native.get_train_dataloader()))
    for ids, answer in zip(batch["input_ids"], batch["completion_mask"], strict=True):
        assert ids[answer.bool()][-1] == tokenizer.eos_token_id
        assert int((ids[answer.bool()] == tokenizer.eos_token_id).sum()) == 1


# the beginning


@pytest.mark.parametrize(
    "row",
    [{"text": f"{BOS}one"}, {"prompt": f"{BOS}one", "completion": " two"}, ROW],
    ids=["text", "prompt", "a template that writes it twice"],
)
def test_a_row_begins_once_and_that_is_told_once(beginning, caplog, row):
    beginning.chat_template = "{{ bos_token }}{{ bos_token }}" + beginning.chat_template
    tokeniser = Tokeniser(beginning)
    for tokens in tokeniser([row, row]):
        assert tokens.input_ids.count(beginning.bos_token_id) == 1
        assert len(tokens.input_ids) == len(tokens.labels)
    assert caplog.text.count("rows begin with <|system|> twice: one of them is taken away") == 1


def test_what_the_template_begins_the_tokenizer_does_not_begin_again(beginning, caplog):
    beginning.chat_template = "{{ bos_token }}" + beginning.chat_template
    assert read(beginning, ROW)[0].count(BOS) == 1
    assert not caplog.text


def test_pairs_and_prompts_begin_once(beginning):
    (pair,) = PairTokeniser(beginning)([{"prompt": f"{BOS}one", "chosen": " a", "rejected": " b"}])
    (prompt,) = PromptTokeniser(beginning)([{"prompt": f"{BOS}one"}])
    assert pair.prompt_ids.count(beginning.bos_token_id) == prompt.input_ids.count(beginning.bos_token_id) == 1


def test_an_end_that_the_tokenizer_adds_is_not_a_second_one_and_is_trained(tokenizer):
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, tokenizer.eos_token_id)]
    )
    assert read(tokenizer, {"prompt": "Q", "completion": " A"}) == (f"Q A{END}", f" A{END}")


# where answers stand


def test_a_template_that_changes_what_surrounds_earlier_answers_trains_them_where_they_stand(tokenizer):
    tokenizer.chat_template = THINKING
    whole, trained = read(tokenizer, ROW)
    assert whole.count("<think>") == 1
    assert trained == "Hello<|end|><think></think>Ciao<|end|>"


def test_answers_of_the_context_stay_untrained_in_such_a_template(tokenizer):
    tokenizer.chat_template = THINKING
    assert read(tokenizer, {"messages": CHAT, "context": 2})[1] == "<think></think>Ciao<|end|>"


def test_a_template_that_writes_generation_marks_is_read_like_any_other(tokenizer):
    inner = "{% generation %}{{ m.content }}<|end|>{% endgeneration %}"
    tokenizer.chat_template = "{% for m in messages %}<|{{ m.role }}|>" + inner + "{% endfor %}"
    tokenizer.chat_template += "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    assert read(tokenizer, ROW)[1] == "Hello<|end|>Ciao<|end|>"


FOR_IMAGES = ("idefics3", "llava_next", "smolvlm")
"""Their templates take content as a list of parts only, and leave out text."""


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.jinja")), ids=lambda path: path.stem)
def test_of_each_template_that_trl_knows_the_answers_and_their_ends_are_trained(tokenizer, path):
    """Those of some thirty families of models; its variants for training, with generation marks, are among them."""
    template = path.read_text("utf-8")
    marks = sorted(
        {*re.findall(r"<\|[^|<>\s'{}]{1,30}\|>|<｜[^<>\s]{1,40}｜>|<(?:start|end)_of_turn>|<turn\|>", template)}
    )
    tokenizer.add_special_tokens({"extra_special_tokens": marks, "bos_token": BOS})
    tokenizer.chat_template = template
    if path.stem.removesuffix("_training") in FOR_IMAGES:
        with pytest.raises(ConfigError, match="chat_template"):
            read(tokenizer, ROW)
        return
    whole, trained = read(tokenizer, ROW)
    assert [word for word in ("Hi", "Hello", "Bye", "Ciao") if word in trained] == ["Hello", "Ciao"]
    assert trained.endswith((*marks, END))
    assert whole.index("Hi") < whole.index("Hello") < whole.index("Bye") < whole.index("Ciao")


def test_a_part_of_an_answer_that_the_template_leaves_out_is_told_once(tokenizer, caplog):
    tokenizer.chat_template = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}<|end|>{% endfor %}"
    messages = [CHAT[0], {"role": "assistant", "content": "<think>hm</think>Hello"}]
    tokeniser = Tokeniser(tokenizer)
    tokeniser([{"messages": messages, "context": 0}] * 2)
    assert caplog.text.count("leaves out a part of an answer, such as its reasoning; see 'aligntune preview'") == 1


def test_a_template_that_leaves_out_the_words_of_an_answer_is_refused(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}<|end|>{% endfor %}"
    with pytest.raises(ConfigError, match="it leaves out the words of turn 2; set another template"):
        Tokeniser(tokenizer)([{"messages": CHAT[:2], "context": 0}])


# tools


def test_calls_are_trained_where_they_stand_in_a_template_that_changes_what_surrounds_them(tokenizer):
    called = "{% if m.tool_calls is defined %}{{ m.tool_calls | tojson }}{% endif %}<|end|>"
    tokenizer.chat_template = THINKING.replace("<|end|>", called, 1)
    messages = [
        CHAT[0],
        {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
        {"role": "tool", "content": "2"},
        CHAT[1],
    ]
    trained = read(tokenizer, {"messages": messages, "context": 0})[1]
    calls, _, answer = trained.partition(END)
    assert json.loads(calls) == [CALL, CALL]
    assert answer == "<think></think>Hello<|end|>"


def test_tools_and_calls_reach_the_template_without_what_a_table_filled_up(tokenizer):
    tokenizer.chat_template = TOOL_TEMPLATE
    asked = {"role": "user", "content": "1 + 1?", "tool_calls": None}
    calls = {"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": None}]}
    whole, trained = read(tokenizer, {"messages": [asked, calls], "context": 0, "tools": [{**TOOL, "strict": None}]})
    assert json.dumps(TOOL["function"]["name"]) in whole
    assert "null" not in whole
    assert "None" not in whole
    assert json.loads(trained.removesuffix(END)) == [CALL]


def test_tools_may_be_json_text(tokenizer):
    tokenizer.chat_template = TOOL_TEMPLATE
    calls = {"role": "assistant", "content": "", "tool_calls": json.dumps([CALL])}
    row = {"messages": [CHAT[0], calls], "context": 0}
    assert read(tokenizer, {**row, "tools": json.dumps([TOOL])}) == read(tokenizer, {**row, "tools": [TOOL]})


def test_tools_that_are_no_json_are_refused(tokenizer):
    with pytest.raises(DataError, match="tools or tool_calls of a row are no JSON"):
        Tokeniser(tokenizer)([{**ROW, "tools": "{"}])


def test_calls_that_the_template_leaves_out_are_refused(tokenizer):
    calls = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    with pytest.raises(DataError, match="leaves out what the assistant calls; set one that writes tool_calls"):
        Tokeniser(tokenizer)([{"messages": [CHAT[0], calls], "context": 0}])


def test_tools_that_the_template_leaves_out_are_told(tokenizer, caplog):
    assert read(tokenizer, {**ROW, "tools": [TOOL]})[1] == "Hello<|end|>Ciao<|end|>"
    assert caplog.text.count("the chat template has no place for tools") == 1


# templates with a name


def test_a_template_by_its_name_is_used_and_kept(make):
    rows = [{"messages": CHAT}]
    with make(train_dataset=rows, chat_template="plain") as trainer:
        assert "Question:" in trainer.resolved["chat_template"]


def test_a_template_of_tokens_that_the_tokenizer_has_not_is_refused(make):
    with pytest.raises(ConfigError, match=r"chatml': the tokenizer has no token <\|im_start\|>; set .* plain"):
        make(train_dataset=[{"messages": CHAT}], chat_template="chatml")


# rows that the library tokenises itself


@pytest.fixture
def beginning_model(micro: Path, tmp_path: Path) -> Path:
    """The model of twelve words, whose tokenizer puts the word j before text."""
    model = copytree(micro, tmp_path / "beginning")
    tokenizer = AutoTokenizer.from_pretrained(micro)
    tokenizer.bos_token = "j"  # noqa: S105 - no password
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="j $A", special_tokens=[("j", tokenizer.bos_token_id)]
    )
    tokenizer.save_pretrained(model)
    return model


def test_prompts_of_rollouts_begin_once(align, beginning_model, caplog):
    rows = [{"prompt": "j a b"}, {"prompt": "a b"}] * 16
    with align("grpo", model_name=str(beginning_model), train_dataset=rows, max_steps=1) as trainer:
        bos, seen = trainer.native.processing_class.bos_token_id, []
        generate = trainer.native._generate_single_turn
        trainer.native._generate_single_turn = lambda ids, *rest: seen.extend(ids) or generate(ids, *rest)
        trainer.train()
    assert {tuple(ids).count(bos) for ids in seen} == {1}
    assert caplog.text.count("rows begin with j, which the tokenizer adds too: it is taken away") == 1


def test_a_question_that_begins_like_the_tokenizer_is_asked_once(make, beginning_model):
    rows = [{"prompt": "a ", "completion": "b"}] * 8
    with make(model_name=str(beginning_model), train_dataset=rows, max_seq_length=16) as trainer:
        asked: list[Any] = []
        generate = trainer.native.model.generate
        trainer.native.model.generate = lambda **given: asked.append(given["input_ids"]) or generate(**given)
        trainer.predict(["j a b", "a b"])
    bos = AutoTokenizer.from_pretrained(beginning_model).bos_token_id
    assert ((asked[0] == bos).sum(dim=1) == 1).all()
