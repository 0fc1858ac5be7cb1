"""`generate` and `export`: what they print, write and refuse, with a backend that trains nothing."""

from __future__ import annotations

import errno
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligntune import get_trainer
from aligntune_core import Availability, MergeReport, OpenRequest, hookimpl
from aligntune_core.cli.main import run
from aligntune_core.cli.untrusted import visible
from aligntune_core.plugins import BackendRegistry
from aligntune_core.testing import FakeBackend
from aligntune_core.testing.fake_backend import FakeModel, write_fake_model

Cli = Callable[..., tuple[int, str, str]]
Use = Callable[..., BackendRegistry]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Give `cli("command", "--flag")`: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def trained(use_registry: Use, fake_model: Path, chat_file: Path, in_tmp: Path) -> Path:
    """A finished run of four steps in the folder `run`, with checkpoints after 2 and 4."""
    use_registry(fake=FakeBackend())
    names = {"model_name": str(fake_model), "dataset_name": str(chat_file), "output_dir": "run"}
    with get_trainer("sft", max_steps=4, save_steps=2, logging_steps=1, **names) as trainer:
        trainer.listen()
        trainer.train()
    return Path("run")


def error_of(result: tuple[int, str, str], code: int = 2) -> str:
    """The one error line, and nothing on standard output."""
    assert (result[0], result[1]) == (code, ""), result
    return result[2].removeprefix("error: ").rstrip()


# generate

CHAT = '[{"role": "user", "content": "Hi"}]'


def test_one_prompt_gives_its_answer_alone(trained: Path, cli: Cli) -> None:
    assert cli("generate", "run", "Why?") == (0, "answer 4\n", "")


def test_several_prompts_stand_above_their_answers(trained: Path, cli: Cli) -> None:
    assert cli("generate", "run", "Why?", "How?")[1] == "Why?\nanswer 4\n\nHow?\nanswer 4\n"


def test_prompts_are_read_from_standard_input(trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Why?\n\nHow?\n"))
    answers = json.loads(cli("generate", "run", "-", "--json")[1])["answers"]
    assert [pair["prompt"] for pair in answers] == ["Why?", "How?"]


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_bytes_that_are_no_text_are_refused(
    trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, errors: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Why?\nabc\xff\n"), "utf-8", errors))
    assert "is no UTF-8 text; convert it" in error_of(cli("generate", "run", "-"))


def test_the_model_folder_of_a_run_means_the_run(trained: Path, cli: Cli) -> None:
    found = json.loads(cli("generate", "run/model", "Why?", "--json")[1])
    assert found == {"model": "run/model", "answers": [{"prompt": "Why?", "answer": "answer 4"}]}


@pytest.mark.parametrize("there", [True, False], ids=["but not here", "not installed"])
def test_a_run_of_a_backend_that_cannot_run_here_is_opened_by_another(
    trained: Path, use_registry: Use, cli: Cli, *, there: bool
) -> None:
    ill = FakeBackend(preference=9, verdict=Availability(False, "no-gpu: none", "get one"))
    use_registry(other=FakeBackend(said="hello"), **({"fake": ill} if there else {}))
    code, said, told = cli("generate", "run", "Why?")
    assert (code, said) == (0, "hello\n")
    why = "no-gpu: none" if there else "no backend has this name"
    assert told == f"warning: it was trained by the backend 'fake' ({why}); 'other' opens it\n"
    assert why in error_of(cli("generate", "run", "Why?", "--backend", "fake"), 3 if there else 2)
    assert cli("generate", "run", "Why?", "--backend", "other") == (0, "hello\n", "")


def test_a_prompt_may_be_a_conversation(trained: Path, cli: Cli) -> None:
    messages = [{"role": "user", "content": "Why?"}]
    found = json.loads(cli("generate", "run", "--messages", json.dumps(messages), "--json")[1])
    assert found["answers"][0]["prompt"] == messages


def test_a_file_gets_what_was_generated_and_json_escapes_it(use_registry: Use, fake_model: Path, cli: Cli) -> None:
    said = "\x1b[31mred\x07 \u202eturned\x9b"
    use_registry(fake=FakeBackend(said=said))
    assert cli("generate", fake_model, "Why?")[1] == said + "\n"
    raw = cli("generate", fake_model, "Why?", "--json")[1]
    assert not set(raw) & {"\x1b", "\x07", "\u202e", "\x9b"}
    assert json.loads(raw)["answers"][0]["answer"] == said


@pytest.mark.parametrize(
    ("text", "shown"), [("\x1b]0;title\x07", "\\u001b]0;title\\u0007"), ("a\tb\nü👩\u200d🚀", None)]
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str | None) -> None:
    assert visible(text) == (text if shown is None else shown)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "there is no prompt; write one, or - to read them from standard input"),
        ([""], "a prompt is empty"),
        (["Why?", "--top-p", "0.5"], "--top-p has no effect without --temperature above 0"),
        (["Why?", "--seed", "1"], "--seed has no effect without --temperature above 0"),
        (["Why?", "--temperature", "nan"], "Invalid value for '--temperature'"),
        (["Why?", "--max-tokens", "0"], "Invalid value for '--max-tokens'"),
        (["Why?", "--messages"], "'Why?' is no conversation"),
        (['[{"role": "alien", "content": "Hi"}]', "--messages"], "message 1: role 'alien' is none of system, "),
        (['[{"role": 3, "content": "Hi"}]', "--messages"], "message 1: role 3 is none of "),
        (['[{"role": "user", "content": null}]', "--messages"], "message 1: content is null, expected text"),
        ([CHAT, '[{"role": "user", "content": {"a": 1}}]', "--messages"], "content is a mapping, expected text"),
        ([CHAT.replace("Hi", "\\ud800"), "--messages"], "a message is no UTF-8 text; convert it"),
        (["a\udcff"], "a prompt is no UTF-8 text; convert it"),
        (["Why?", "--system-prompt", "Be brief."], "this model is not asked in conversations; leave it out"),
        (["Why?", "--backend", "fke"], "no backend has this name; did you mean 'fake'?"),
    ],
)
def test_what_cannot_be_asked_is_refused(trained: Path, cli: Cli, arguments: list[str], told: str) -> None:
    assert told in error_of(cli("generate", "run", *arguments))


def test_a_run_without_a_model_names_its_newest_checkpoint(trained: Path, cli: Cli) -> None:
    shutil.rmtree("run/model")
    told = error_of(cli("generate", "run", "Why?"))
    assert "this run has saved no model yet; finish it: aligntune train --resume run; or give its checkpoint " in told
    assert told.endswith("run/checkpoint-4")


def test_a_folder_that_is_misspelt_is_not_asked_of_the_hub(trained: Path, cli: Cli) -> None:
    told = error_of(cli("generate", "run/modle", "Why?"))
    assert told == "model_name = 'run/modle': this folder does not exist; did you mean 'run/model'?"


def test_a_hub_that_does_not_answer_is_told_in_one_line(
    trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library waits 23 s in all
    hub.close_session()
    code, out, err = cli("generate", "runs/first", "Why?")
    hub.close_session()
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "warning: there is no folder runs/first here, and the hub does not answer; it is asked again",
        "error: model_name = 'runs/first': it is no local folder, not in the cache, and the hub did not give it; "
        "check the spelling and the connection, or give a local folder",
    ]


def test_a_damaged_checkpoint_is_refused(trained: Path, cli: Cli) -> None:
    Path("run/checkpoint-2/state.json").write_text("{}", "utf-8")
    told = error_of(cli("generate", "run/checkpoint-2", "Why?"))
    assert "state.json " in told
    assert told.endswith("; give another checkpoint, or the run")


def test_code_that_comes_with_a_model_needs_consent_each_time_whatever_its_run_json_says(
    trained: Path, cli: Cli, use_registry: Use
) -> None:
    seen: list[OpenRequest] = []

    class Asked(FakeBackend):
        @hookimpl
        def open_model(self, request: OpenRequest) -> FakeModel:
            seen.append(request)
            return FakeModel(request)

    use_registry(fake=Asked())
    record = Path("run/run.json")
    run = json.loads(record.read_text("utf-8"))
    run["config"] |= {"trust_remote_code": True, "attn_implementation": "evil/kernel"}
    record.write_text(json.dumps(run), "utf-8")
    assert cli("generate", "run", "Why?")[0] == 0  # its tokenizer may still have code: nobody consented to that
    assert (seen[-1].config.trust_remote_code, seen[-1].config.attn_implementation) == (False, None)
    config = Path("run/model/config.json")
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"auto_map": {"AutoConfig": "evil.C"}}))
    for command in (("generate", "run", "Why?"), ("export", "run"), ("export", "run", "--merge", "--dtype", "float32")):
        assert "it runs its own Python code, and trust_remote_code is off" in error_of(cli(*command))
        assert cli(*command, "--trust-remote-code")[0] == 0
    assert seen[-1].config.trust_remote_code


def test_a_backend_that_opens_nothing_says_so(trained: Path, cli: Cli, use_registry: Use) -> None:
    silent: Any = type("Silent", (FakeBackend,), {"open_model": None})
    use_registry(fake=silent())
    assert error_of(cli("generate", "run", "Why?"), 3).startswith("backend = 'fake': it opens no saved models; ")


def test_chat_without_a_terminal_is_refused_with_the_remedy(trained: Path, cli: Cli) -> None:
    assert error_of(cli("chat", "run")) == "command line: chat needs a terminal; use: aligntune generate run -"


# export


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_full_model_is_copied_and_that_is_said(trained: Path, cli: Cli) -> None:
    code, out, _ = cli("export", "run", "--merge", "--output", "copy")
    assert (code, out) == (0, "a full model, copied as it is; there is no adapter to merge: copy\n")
    copied = tree(Path("copy"))
    assert copied.pop("README.md").startswith(b"---\nlibrary_name: transformers\n")
    assert copied == tree(Path("run/model"))


def test_the_folder_stands_beside_the_run_unless_it_is_named(trained: Path, cli: Cli) -> None:
    assert cli("export", "run")[0] == cli("export", "run", "--merge", "--dtype", "float32")[0] == 0
    assert {p.name for p in Path().iterdir()} == {"run", "run-exported", "run-merged"}


def test_another_model_is_replaced_on_request_only(trained: Path, cli: Cli) -> None:
    write_fake_model(Path("there"))
    before = tree(Path("there"))
    assert "holds a model already; give --overwrite" in error_of(cli("export", "run", "--output", "there"))
    assert tree(Path("there")) == before
    assert cli("export", "run", "--output", "there", "--overwrite")[0] == 0
    assert "state.json" in tree(Path("there"))


@pytest.mark.parametrize("place", ["notes", "run", "run/model", "file", "link"])
def test_a_folder_that_is_no_saved_model_or_is_the_source_is_never_replaced(
    trained: Path, cli: Cli, place: str
) -> None:
    write_fake_model(Path("notes"))
    Path("notes/sub").mkdir()
    Path("file").write_text("mine", "utf-8")
    Path("link").symlink_to("run/model")
    before = tree(Path())
    assert error_of(cli("export", "run", "--output", place, "--overwrite")).startswith(f"output = '{place}': ")
    assert tree(Path()) == before


def test_the_folder_that_one_is_in_is_not_replaced_and_may_be_named_by_dots(
    trained: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("empty").mkdir()
    monkeypatch.chdir("empty")
    for place in (".", "..", "/"):
        assert "is the folder that you are in" in error_of(cli("export", "../run", "--output", place))
    assert cli("export", "../run", "--output", "new/sub/..")[0] == 0
    assert (Path("new") / "state.json").exists()
    monkeypatch.chdir("../run/model")
    assert cli("export", "..")[0] == 0
    assert Path("../../run-exported/state.json").exists()


class FullDiskModel(FakeModel):
    """A model that cannot be written whole."""

    def merge(self, path: Path, dtype: str | None) -> MergeReport:
        write_fake_model(path)
        raise OSError(errno.ENOSPC, "No space left on device")


class FullDisk(FakeBackend):
    """A backend on a disk without room."""

    @hookimpl
    def open_model(self, request: OpenRequest) -> FakeModel:
        return FullDiskModel(request)


def test_an_export_that_fails_leaves_what_was_there(trained: Path, cli: Cli, use_registry: Use) -> None:
    write_fake_model(Path("there"))
    before = tree(Path())

    use_registry(fake=FullDisk())
    result = cli("export", "run", "--merge", "--dtype", "float32", "--output", "there", "--overwrite")
    assert error_of(result, 6).startswith("output = 'there': cannot be written: No space left on device")
    assert tree(Path()) == before


def test_a_precision_without_a_merge_is_refused(trained: Path, cli: Cli) -> None:
    assert "--dtype has no effect without --merge" in error_of(cli("export", "run", "--dtype", "float32"))
