"""What is trained, and that it is what was asked for."""

from __future__ import annotations

import contextlib
import math
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from aligntune_torch.model import end_tokens
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, get_scheduler

from aligntune_core import Callback, ConfigError, DataError, DivergedError, RunInterrupted, StorageError


def reference_loss(model: Any, tokenizer: Any, rows: list[dict[str, str]]) -> torch.Tensor:
    """The mean over all answer tokens and ends of all rows: one row at a time, without padding, in float64."""
    losses = []
    for row in rows:
        asked = len(tokenizer(row["prompt"]).input_ids)
        ids = torch.tensor([tokenizer(row["prompt"] + row["completion"] + tokenizer.eos_token).input_ids])
        chances = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1)
        losses.append(-chances.gather(1, ids[0, 1:, None])[asked - 1 :])
    return torch.cat(losses).mean()


@pytest.fixture
def reference(tiny: Path, six_rows: list[dict[str, str]]) -> tuple[float, float]:
    """Loss and norm of the gradient of the untrained model, in float64."""
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float64)
    loss = reference_loss(model, AutoTokenizer.from_pretrained(tiny), six_rows)
    loss.backward()
    return loss.item(), math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))


@pytest.mark.parametrize(("size", "accumulation"), [(6, 1), (2, 3), (1, 6)])
def test_the_loss_is_the_mean_over_the_tokens_of_all_batches_of_a_step(make, reference, size, accumulation, metrics):
    trainer = make(max_steps=1, batch_size=size, gradient_accumulation_steps=accumulation)
    trainer.train()
    row = metrics(trainer)[0]
    assert (row["loss"], row["grad_norm"]) == pytest.approx(reference, rel=1e-5)


@pytest.mark.parametrize("size", [1, 4, 6])
def test_the_evaluation_loss_is_the_mean_over_tokens(make, reference, size, six_rows):
    found = make(eval_dataset=six_rows, eval_batch_size=size).evaluate()
    assert found["eval_loss"] == pytest.approx(reference[0], rel=1e-5)
    assert found["eval_perplexity"] == pytest.approx(math.exp(reference[0]), rel=1e-4)


def test_a_row_of_metrics_is_the_mean_over_the_tokens_of_its_steps(make, tmp_path, metrics):
    each = make(max_steps=2, gradient_accumulation_steps=1, output_dir=str(tmp_path / "each"))
    each.train()
    both = make(max_steps=2, gradient_accumulation_steps=1, logging_steps=2)
    both.train()
    counts = [sum(row.trained for row in each.native.rows_of(step)) for step in (1, 2)]
    assert counts[0] != counts[1]
    mean = sum(n * row["loss"] for n, row in zip(counts, metrics(each), strict=True)) / sum(counts)
    assert [row["loss"] for row in metrics(both)] == [pytest.approx(mean)]


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(make):
    trainer = make(num_epochs=2, batch_size=4, gradient_accumulation_steps=1).native
    epochs = [[row.input_ids for step in steps for row in trainer.rows_of(step)] for steps in ((1, 2), (3, 4))]
    assert trainer.steps_planned == 4
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(row.input_ids for row in trainer.rows)


def test_the_weights_are_those_of_a_plain_script(make, tiny, six_rows):
    """Three steps with warm-up, cosine, clipping and decay, each over all rows at once, unpadded."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)
    matrices, others = ([p for p in model.parameters() if (p.ndim == 2) is matrix] for matrix in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=1, num_training_steps=3)
    for _ in range(3):
        optimizer.zero_grad()
        reference_loss(model, tokenizer, six_rows).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        schedule.step()
    trainer = make(max_steps=3, warmup_steps=1, learning_rate=1e-2, weight_decay=0.3, max_grad_norm=0.1)
    trainer.train()
    found = trainer.native.model.state_dict()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=2e-5)


def test_what_recurs_comes_at_its_steps_and_the_last_step_is_a_row(make, six_rows, metrics):
    trainer = make(max_steps=5, logging_steps=2, eval_dataset=six_rows[:1], eval_steps=2)
    trainer.train()
    assert [row["step"] for row in metrics(trainer)] == [2, 4, 5]
    assert [row["step"] for row in metrics(trainer, "eval")] == [2, 4]


def test_without_eval_steps_it_evaluates_after_each_epoch_and_at_the_end(make, six_rows, metrics):
    trainer = make(num_epochs=1.5, gradient_accumulation_steps=1, eval_dataset=six_rows[:1])
    trainer.train()
    assert [row["step"] for row in metrics(trainer, "eval")] == [3, 5]
    assert [row["epoch"] for row in metrics(trainer)] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3], abs=1e-5)


def test_the_learning_rates_are_those_of_transformers_cosine(make):
    trainer = make(max_steps=10, warmup_steps=0.25, learning_rate=0.1)
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = get_scheduler("cosine", theirs, num_warmup_steps=3, num_training_steps=10)
    for step in range(1, 11):
        assert trainer.native.learning_rate_at(step) == pytest.approx(theirs.param_groups[0]["lr"], abs=1e-12)
        theirs.step()
        schedule.step()


def test_only_matrices_are_decayed(make):
    decayed, others = make(weight_decay=0.5).native.optimizer.param_groups
    assert (decayed["weight_decay"], {p.ndim for p in decayed["params"]}) == (0.5, {2})
    assert (others["weight_decay"], {p.ndim for p in others["params"]}) == (0.0, {1})


CHAT = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Ciao"},
]


@pytest.mark.parametrize(
    ("row", "trained"),
    [
        ({"prompt": "Q: 1+1? ", "completion": "2"}, "2<|end|>"),
        ({"prompt": "Q", "completion": " 2<|end|>"}, " 2<|end|>"),
        ({"text": "one two"}, "one two<|end|>"),
        ({"messages": CHAT, "context": 0}, "Hello<|end|>Ciao<|end|>"),
        ({"messages": CHAT, "context": 3}, "Ciao<|end|>"),
    ],
    ids=["an answer", "an answer with its end", "a text", "a conversation", "the last turn"],
)
def test_what_is_trained_is_the_answers_and_their_ends(make, row, trained):
    trainer = make().native
    (tokens,) = trainer.preview([row])
    assert len(tokens.input_ids) == len(tokens.labels)
    assert trainer.tokenizer.decode([label for label in tokens.labels if label != -100]) == trained


def test_rows_of_which_nothing_is_left_to_train_are_left_out_and_told_of(make, caplog):
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "a " * 50, "completion": "b"}]
    with caplog.at_level("WARNING", "aligntune"):
        assert len(make(train_dataset=rows, max_seq_length=8).native.rows) == 1
    assert "1 of 2 rows are left out" in caplog.text
    with pytest.raises(DataError, match=r"max_seq_length = 8: no row has a trained token.*raise max_seq_length"):
        make(train_dataset=rows[1:], max_seq_length=8)


def test_a_row_longer_than_the_model_can_take_is_refused(make):
    with pytest.raises(ConfigError, match=r"max_seq_length = 601: .* 512 positions; set max_seq_length: 512"):
        make(train_dataset=[{"text": "a" * 600}])


def changed(tiny: Path, target: Path, name: str, value: float) -> str:
    """The tiny model with the first number of one weight replaced."""
    shutil.copytree(tiny, target)
    tensors = load_file(target / "model.safetensors")
    tensors[name].view(-1)[0] = value
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return str(target)


def test_a_loss_that_is_not_finite_ends_the_run_at_that_step(make, tiny, tmp_path):
    broken = changed(tiny, tmp_path / "nan", "model.norm.weight", math.nan)
    trainer = make(model_name=broken, save_steps=1)
    with pytest.raises(DivergedError, match="loss = nan: is not finite at step 1"):
        trainer.train()
    assert not list(trainer.run_dir.glob("checkpoint-*"))


def test_a_gradient_that_is_not_finite_changes_no_weight(make):
    trainer = make(warmup_steps=0)
    before = {name: tensor.clone() for name, tensor in trainer.native.model.state_dict().items()}
    trainer.native.model.model.norm.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(DivergedError, match=r"grad_norm = (inf|nan): is not finite at step 1"):
        trainer.train()
    assert all(torch.equal(before[name], tensor) for name, tensor in trainer.native.model.state_dict().items())


def with_dropout(tiny: Path, target: Path) -> str:
    """The tiny model with dropout, so that every step draws random numbers."""
    shutil.copytree(tiny, target)
    text = (target / "config.json").read_text("utf-8")
    (target / "config.json").write_text(text.replace('"attention_dropout": 0.0', '"attention_dropout": 0.5'), "utf-8")
    return str(target)


class StopAt(Callback):
    """Presses Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, step: int) -> None:
        if step == self.at:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("algorithm", ["sft", "neftune"])
def test_an_interrupted_run_ends_bit_identical_with_a_whole_one(make, tiny, tmp_path, algorithm, six_rows, metrics):
    """Steps 5 of 12: within the second epoch, and within a window of metrics."""
    settings = {
        "model_name": with_dropout(tiny, tmp_path / "dropout"), "num_epochs": 4, "gradient_accumulation_steps": 1,
        "logging_steps": 3, "eval_dataset": six_rows[:2], "eval_steps": 4,
    }  # fmt: skip
    whole = make(algorithm, **settings, output_dir=str(tmp_path / "whole"))
    assert whole.native.model.config.attention_dropout == 0.5
    whole.train()
    first = make(algorithm, **settings)
    first.listen(StopAt(5))
    with pytest.raises(RunInterrupted):
        first.train()
    resumed = make(algorithm, **settings, resume=True)
    resumed.train()
    ours, theirs = (load_file(run.run_dir / "model/model.safetensors") for run in (resumed, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert metrics(resumed) == metrics(whole)
    assert metrics(resumed, "eval") == metrics(whole, "eval")


def test_nothing_in_a_checkpoint_is_pickled(make):
    trainer = make(max_steps=1)
    trainer.train()
    kinds = {path.suffix for path in (trainer.run_dir / "checkpoint-1").iterdir()}
    assert kinds <= {".safetensors", ".json", ".jinja"}


def test_it_learns_an_answer_and_where_it_ends(make):
    row = {"instruction": "What is a token?", "output": "A piece of text."}
    trainer = make(train_dataset=[row], max_steps=25, learning_rate=3e-3, warmup_steps=0)
    assert trainer.predict([row["instruction"]]) != [row["output"]]
    trainer.train()
    asked = [{"role": "user", "content": row["instruction"]}]
    assert trainer.predict([row["instruction"], asked]) == [row["output"]] * 2


def test_an_answer_ends_where_the_template_ends_a_turn(make, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "other")
    template = "{% for m in messages %}<|assistant|>{{ m.content }}<|user|>\n{% endfor %}"
    (tmp_path / "other/chat_template.jinja").write_text(template, "utf-8")
    trainer = make(model_name=str(tmp_path / "other")).native
    ends = trainer.tokenizer.convert_ids_to_tokens(end_tokens(trainer.model, trainer.tokenizer))
    assert sorted(ends) == ["<|end|>", "<|user|>"]


def test_tools_that_may_be_called_are_given_to_the_template(make, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "other")
    path = tmp_path / "other/chat_template.jinja"
    path.write_text("{% if tools %}{{ tools | tojson }}{% endif %}" + path.read_text("utf-8"), "utf-8")
    row = {"messages": CHAT, "tools": [{"name": "add"}]}
    trainer = make(model_name=str(tmp_path / "other"), train_dataset=[row]).native
    (tokens,) = trainer.preview([{**row, "context": 0}])
    assert trainer.tokenizer.decode(tokens.input_ids).startswith('[{"name": "add"}]<|user|>Hi')


def test_a_question_gets_the_system_prompt_that_the_rows_got(make):
    row, system = {"instruction": "Who?", "output": "Me."}, "Be kind."
    trainer = make(train_dataset=[row], system_prompt=system).native
    (trained,) = trainer.rows
    asked = trainer.question("Who?")
    assert asked == "<|system|>Be kind.<|end|><|user|>Who?<|end|><|assistant|>"
    assert trainer.tokenizer.decode(trained.input_ids).startswith(asked)


def test_messages_are_refused_where_the_rows_are_plain_text(make):
    with pytest.raises(ConfigError, match=r"inputs: is a list; pass text"):
        make().predict([[{"role": "user", "content": "Hi"}]])


def test_a_tokenizer_without_a_chat_template_is_refused_for_conversations(make, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "plain")
    (tmp_path / "plain/chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="no chat template"):
        make(model_name=str(tmp_path / "plain"), train_dataset=[{"messages": CHAT}])


def test_an_open_model_needs_a_name_for_its_tokenizer(make, tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny)
    model.name_or_path = model.config._name_or_path = ""
    with pytest.raises(ConfigError, match="model_name"):
        make(model=model)


def test_an_open_model_is_trained_as_it_is(make, tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny)
    before = model.lm_head.weight.detach().clone()
    trainer = make(model=model, max_steps=2)
    trainer.train()
    assert trainer.native.model is model
    assert not torch.equal(model.lm_head.weight, before)


def test_bf16_changes_the_computation_and_not_the_weights(make, reference, metrics):
    trainer = make(max_steps=1, precision="bf16")
    trainer.train()
    loss = metrics(trainer)[0]["loss"]
    assert loss != pytest.approx(reference[0], rel=1e-5)
    assert loss == pytest.approx(reference[0], rel=1e-2)
    assert {p.dtype for p in trainer.native.model.parameters()} == {torch.float32}


def test_weights_that_are_missing_are_not_made_up(make, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "part")
    tensors = load_file(tmp_path / "part/model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, tmp_path / "part/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="1 of its weights are in no file"):
        make(model_name=str(tmp_path / "part"))


def test_a_quantised_model_or_an_adapter_is_refused(make, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "adapter")
    (tmp_path / "adapter/adapter_config.json").write_text(f'{{"base_model_name_or_path": "{tiny}"}}', "utf-8")
    with pytest.raises(ConfigError, match="trains all weights"):
        make(model_name=str(tmp_path / "adapter"))


def test_a_model_that_is_not_wholly_written_is_an_error(make, tmp_path, monkeypatch):
    trainer = make()
    monkeypatch.setattr(trainer.native.model, "save_pretrained", lambda path: None)
    with pytest.raises(StorageError, match=r"of [\d,]+ weights, 0 were written"):
        trainer.save_model(tmp_path / "model")


@contextlib.contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """What a full disk feels like."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("share", [0.5, 1.5], ids=["for the model", "for the optimizer"])
def test_a_disk_that_is_too_small_is_a_storage_error(make, tiny, share):
    trainer = make(max_steps=1)
    room = round((tiny / "model.safetensors").stat().st_size * share)
    with no_file_above(room), pytest.raises(StorageError, match="cannot be written"):
        trainer.train()
    assert not list(trainer.run_dir.glob("checkpoint-*"))


def test_a_model_that_cannot_be_written_is_an_error(make, tmp_path):
    (tmp_path / "file").write_text("not a folder", "utf-8")
    with pytest.raises(StorageError):
        make().save_model(tmp_path / "file" / "model")
