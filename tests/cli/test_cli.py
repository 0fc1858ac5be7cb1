"""The command line: what it prints, what it exits with, and that every setting is a flag."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from aligntune_core import Availability, Support, TrainRequest, hookimpl
from aligntune_core.cli.main import COMMANDS, app, run
from aligntune_core.cli.train import train
from aligntune_core.config import CONFIGS
from aligntune_core.config.aliases import ALIASES
from aligntune_core.plugins import BackendRegistry
from aligntune_core.testing import FakeBackend
from aligntune_core.testing.fake_backend import FakeTrainer

Use = Callable[..., BackendRegistry]
ILL = Availability(False, "it is ill", "mend it")


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """What a command adds to the logger goes with the test, and nothing is there before."""
    logger = logging.getLogger("aligntune")
    before = list(logger.handlers)
    logger.handlers.clear()
    yield
    logger.handlers[:] = before


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Give `cli("command", "--flag")`: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return call


Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def flags(fake_model: Path, chat_file: Path, in_tmp: Path) -> list[str]:
    """Flags of a small run in the folder `run`."""
    paths = [f"--model-name={fake_model}", f"--dataset-name={chat_file}", "--output-dir=run"]
    return [*paths, "--max-steps=4", "--save-steps=2", "--logging-steps=1"]


def data_of(result: tuple[int, str, str], code: int = 0) -> Any:
    """The JSON on standard output, and nothing else there."""
    assert result[0] == code, result[2]
    return json.loads(result[1])


def errors_of(result: tuple[int, str, str], code: int) -> list[str]:
    """The error lines, on standard error only, without a traceback."""
    assert (result[0], result[1]) == (code, ""), result[2]
    lines = result[2].splitlines()
    assert all(line.startswith("error: ") for line in lines), lines
    return [line.removeprefix("error: ") for line in lines]


def test_what_data_say_can_neither_command_the_terminal_nor_hide_a_line(
    use_registry: Use, cli: Cli, flags: list[str], tmp_path: Path
) -> None:
    use_registry(fake=FakeBackend())
    column = "\x1b[2J\u202e\x9b31m\ncol"
    rows = tmp_path / "odd.jsonl"
    rows.write_text(json.dumps({"prompt": "Why?", "completion": "So.", column: 1}) + "\n", "utf-8")
    code, _, err = cli("train", *flags, f"--dataset-name={rows}", "--dry-run")
    assert code == 0
    assert f"{rows}: 1 rows, read as " in err
    assert r"columns not used: \u001b[2J\u202e\u009b31m\ncol" in err.splitlines()[0]
    found = cli("preview", *flags[:1], f"--dataset-name={rows}", "--json")
    assert data_of(found)["columns"]["unused"] == [column]
    assert not set("\x1b\u202e\x9b") & set(found[1] + err)


# JSON


@pytest.mark.parametrize("command", ["list-backends", "list-backends-cmd"])
def test_list_backends_json(use_registry: Use, cli: Cli, command: str) -> None:
    use_registry(fake=FakeBackend(verdict=ILL))
    found = data_of(cli(command, "--json"))
    assert list(found) == ["backends"]
    assert list(found["backends"]) == ["fake", "trl", "unsloth"]
    assert found["backends"]["fake"] == {
        "available": False,
        "reason": "it is ill",
        "remedy": "mend it",
        "version": "1.0",
        "distribution": "aligntune-fake",
    }


def test_matrix_json(use_registry: Use, cli: Cli) -> None:
    use_registry(fake=FakeBackend())
    cells = data_of(cli("matrix", "--json"))["cells"]
    assert cells[0] == {
        "backend": "fake",
        "algorithm": "sft",
        "task": "chat_completion",
        "model_type": "causal_lm",
        "level": "full",
        "note": "",
        "available": True,
        "reason": "",
    }


def test_diagnose_json(use_registry: Use, cli: Cli) -> None:
    use_registry(fake=FakeBackend(verdict=ILL))
    found = data_of(cli("diagnose", "--json"))
    assert list(found) == ["python", "platform", "packages", "devices", "precision", "backends", "problems"]
    assert {"what": "backend fake: it is ill", "remedy": "mend it"} in found["problems"]
    assert {"what": "no backend can train here", "remedy": "pip install 'aligntune[trl]'"} in found["problems"]
    assert {d["kind"] for d in found["devices"]} >= {"cpu"}


def test_validate_json_of_a_good_file(use_registry: Use, cli: Cli, fake_model: Path, chat_file: Path) -> None:
    use_registry(fake=FakeBackend())
    path = _config(chat_file.parent, model_name=str(fake_model), dataset_name=str(chat_file), lr="1e-4")
    found = data_of(cli("validate", path, "--json"))
    assert (found["ok"], found["errors"], found["config"]["learning_rate"]) == (True, [], 1e-4)


def test_validate_json_of_a_bad_file(use_registry: Use, cli: Cli, tmp_path: Path) -> None:
    use_registry(fake=FakeBackend())
    found = data_of(cli("validate", _config(tmp_path, lora_r=0, sed=1), "--json"), 2)
    assert (found["ok"], found["config"]) == (False, None)
    assert {e["field"] for e in found["errors"]} == {"lora_r", "sed"}
    assert all(set(e) == {"field", "value", "problem", "remedy"} for e in found["errors"])


def _config(folder: Path, **settings: object) -> Path:
    path = folder / "run.yaml"
    path.write_text(json.dumps(settings), "utf-8")
    return path


def test_validate_looks_at_all_files_and_writes_nothing(use_registry: Use, cli: Cli, in_tmp: Path) -> None:
    use_registry(fake=FakeBackend())
    path = _config(in_tmp, model_name="./none", dataset_name="./none.jsonl", output_dir="run.yaml")
    lines = errors_of(cli("validate", path), 2)
    assert {line.split(" = ")[0] for line in lines} == {"model_name", "dataset_name", "output_dir"}
    assert list(in_tmp.iterdir()) == [path]


def test_validate_refuses_what_the_backend_cannot_train(
    use_registry: Use, cli: Cli, fake_model: Path, chat_file: Path
) -> None:
    use_registry(fake=FakeBackend(cells={("instruction_following", "seq2seq"): Support("full")}))
    path = _config(chat_file.parent, model_name=str(fake_model), dataset_name=str(chat_file))
    assert "does not train a causal_lm model" in errors_of(cli("validate", path), 2)[0]


# tables


@pytest.mark.parametrize("command", ["list-backends", "matrix", "diagnose"])
def test_what_reports_prints_a_table(use_registry: Use, cli: Cli, command: str) -> None:
    use_registry(fake=FakeBackend())
    code, out, err = cli(command)
    assert (code, err) == (0, "")
    assert "fake" in out or command == "diagnose"
    assert "\x1b[" not in out


@pytest.mark.parametrize("command", ["list-backends", "matrix", "diagnose"])
def test_what_reports_works_without_any_plugin(use_registry: Use, cli: Cli, command: str) -> None:
    use_registry()
    assert cli(command)[0] == 0


def test_the_matrix_as_markdown(use_registry: Use, cli: Cli) -> None:
    use_registry(fake=FakeBackend())
    out = cli("matrix", "--format", "markdown")[1]
    assert out.startswith("| Algorithm | fake |\n| --- | --- |\n| SFT | Yes |\n")


def test_explain_prints_the_paper_and_the_source_of_each_default(use_registry: Use, cli: Cli) -> None:
    use_registry(fake=FakeBackend())
    out = cli("explain", "S F T")[1]
    assert "arXiv:2203.02155" in out
    found = data_of(cli("explain", "sft", "--json"))
    assert (found["algorithm"], found["backends"]) == ("sft", ["fake"])
    assert all(set(s) == {"name", "default", "source"} and s["source"] for s in found["settings"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(cli: Cli, shell: str) -> None:
    code, out, _ = cli("completion", shell)
    assert code == 0
    assert "_ALIGNTUNE_COMPLETE" in out


def test_completion_gives_commands_and_flags() -> None:
    def complete(words: str, position: int) -> str:
        environ = os.environ | {
            "_ALIGNTUNE_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(position),
        }
        command = [sys.executable, "-c", "from aligntune_core.cli.main import main; main()"]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False).stdout

    assert "plain,list-backends\n" in complete("aligntune li", 1)
    assert "plain,--lora-alpha" in complete("aligntune train --lora-al", 2)


# exit codes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "did you mean 'train'?"),
        (["x" * 10**6], "see 'aligntune --help'"),
        (["train", "--lora-rr", "8"], "--lora-r"),
        (["matrix", "--jsn"], "--json"),
        (["--nonsense"], "--nonsense"),
        (["completion", "tcsh"], "bash"),
        (["validate"], "CONFIG"),
        (["explain", "gsppo"], "did you mean 'gspo'?"),
        (["train", "--algorithm", "gsppo"], "did you mean 'gspo'?"),
        (["train", "--backend", "torch"], "the choices are"),
    ],
)
def test_wrong_usage_is_exit_2_in_one_line_with_a_suggestion(
    use_registry: Use, cli: Cli, arguments: list[str], words: str
) -> None:
    use_registry(fake=FakeBackend())
    (line,) = errors_of(cli(*arguments), 2)
    assert words in line
    assert len(line) < 300


def test_every_bad_flag_is_told_at_once(use_registry: Use, cli: Cli) -> None:
    use_registry(fake=FakeBackend())
    lines = errors_of(cli("train", "--lora-r=x", "--learning-rate=nan", "--max-steps=0"), 2)
    assert [line.split(" = ")[0] for line in lines] == ["max_steps", "learning_rate", "lora_r"]


@pytest.mark.parametrize(
    ("plugins", "arguments"),
    [
        ({}, ["train", "--backend", "unsloth"]),
        ({"fake": FakeBackend(verdict=ILL)}, ["train", "--backend", "fake"]),
        ({"fake": FakeBackend(verdict=ILL)}, ["train"]),
        ({"bad": ImportError("x")}, ["train", "--backend", "bad"]),
    ],
)
def test_a_backend_that_cannot_be_had_is_exit_3(
    use_registry: Use, cli: Cli, plugins: dict[str, Any], arguments: list[str]
) -> None:
    use_registry(**plugins)
    assert len(errors_of(cli(*arguments), 3)) == 1


@pytest.mark.parametrize("command", ["list-backends", "matrix", "diagnose"])
def test_strict_is_exit_3_if_something_is_broken(use_registry: Use, cli: Cli, command: str) -> None:
    use_registry(fake=FakeBackend(), bad=ImportError("x"))
    assert cli(command)[0] == 0
    assert cli(command, "--strict")[0] == cli(command, "--strict", "--json")[0] == 3


@pytest.mark.parametrize("command", ["list-backends", "matrix"])
def test_strict_is_exit_0_if_nothing_is_broken(use_registry: Use, cli: Cli, command: str) -> None:
    use_registry(fake=FakeBackend())
    assert cli(command, "--strict")[0] == 0


def test_a_bug_is_exit_1_with_its_traceback(use_registry: Use, cli: Cli, flags: list[str]) -> None:
    def boom(step: int) -> None:
        raise ZeroDivisionError("oops")

    use_registry(trl=FakeBackend(on_step=boom))
    code, out, err = cli("train", *flags, "--quiet")
    assert (code, out) == (1, "")
    assert "this is a bug of AlignTune: ZeroDivisionError: oops" in err
    assert "Traceback" in Path("run/log.txt").read_text("utf-8")


def test_a_bug_of_a_plugin_is_exit_3_and_told_as_its_own(use_registry: Use, cli: Cli, flags: list[str]) -> None:
    def boom(step: int) -> None:
        raise ZeroDivisionError("oops")

    use_registry(fake=FakeBackend(on_step=boom))
    code, out, err = cli("train", *flags, "--quiet")
    assert (code, out) == (3, "")
    assert "error: train() of the backend 'fake' (aligntune-fake 1.0): ZeroDivisionError: oops; the traceback" in err
    assert "Traceback" in Path("run/log.txt").read_text("utf-8")


def test_a_loss_that_is_not_finite_is_exit_5_and_told_once(use_registry: Use, cli: Cli, flags: list[str]) -> None:
    use_registry(fake=FakeBackend(loss=lambda step: float("nan")))
    code, _, err = cli("train", *flags)
    assert code == 5
    assert err.count("loss = nan: is not finite at step 1") == 1
    assert "Traceback" not in err


def test_the_real_program_prints_its_version() -> None:
    done = subprocess.run([sys.executable, "-m", "aligntune", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("aligntune 0.")


# flags


def _options() -> dict[str, click.Option]:
    return {flag: p for p in train.get_params(click.Context(train)) if isinstance(p, click.Option) for flag in p.opts}


def test_every_setting_and_every_alias_is_a_flag() -> None:
    names = {name for cls in CONFIGS.values() for name in cls.model_fields}
    names |= {alias for name in names for alias in ALIASES.get(name, ())}
    assert {f"--{name.replace('_', '-')}" for name in names} <= set(_options())


def test_every_setting_is_explained_in_the_help_and_aliases_are_not(cli: Cli) -> None:
    out = cli("train", "--help")[1]
    shown = {flag for flag, option in _options().items() if not option.hidden}
    assert all(flag in out for flag in shown)
    assert "--num-train-epochs" not in out
    assert all(option.help for option in _options().values())


def test_every_command_has_help(cli: Cli) -> None:
    overview = cli("--help")[1]
    for name in COMMANDS:
        code, out, err = cli(name, "--help")
        assert (code, err, name in out) == (0, "", True)
        assert (name in overview) == (name != "list-backends-cmd")
    assert app.list_commands(click.Context(app)) == [n for n in COMMANDS if n != "list-backends-cmd"]


@pytest.mark.parametrize(
    ("flag", "name", "value"),
    [
        (["--lr", "1e-3"], "learning_rate", 1e-3),
        (["--num-train-epochs=2"], "num_epochs", 2.0),
        (["--use-lora"], "use_peft", True),
        (["--packing", "false"], "packing", False),
        (["--lora-target-modules=q,v", "--use-peft"], "lora_target_modules", ("q", "v")),
        (["--column-mapping", "prompt=prompt"], "column_mapping", {"prompt": "prompt"}),
        (["--backend-options", "{neftune: 5}"], "backend_options", {"neftune": 5}),
    ],
)
def test_a_flag_sets_its_setting(
    use_registry: Use, cli: Cli, flags: list[str], flag: list[str], name: str, value: object
) -> None:
    fake = FakeBackend()
    use_registry(fake=fake)
    usual = [f for f in flags if "max-steps" not in f]
    assert cli("train", *usual, *flag, "--dry-run")[0] == 0
    assert getattr(fake.requests[0].config, name) == value


def test_a_flag_wins_over_the_file_which_may_choose_the_backend(
    use_registry: Use, cli: Cli, flags: list[str], in_tmp: Path
) -> None:
    fake, other = FakeBackend(), FakeBackend(preference=9)
    use_registry(fake=fake, other=other)
    path = _config(in_tmp, algorithm="SFT", backend="Fake", seed=7, batch_size=2)
    assert cli("train", path, *flags, "--seed", "8", "--dry-run")[0] == 0
    assert (fake.requests[0].config.seed, fake.requests[0].config.batch_size) == (8, 2)
    assert not other.requests


# training


def test_a_dry_run_checks_everything_and_writes_nothing(
    use_registry: Use, cli: Cli, flags: list[str], in_tmp: Path
) -> None:
    use_registry(fake=FakeBackend())
    code, out, _ = cli("train", *flags, "--dry-run")
    assert (code, out) == (0, "every check passed; run would be written\n")
    assert list(in_tmp.iterdir()) == []


def test_train_trains_and_says_where_everything_is(use_registry: Use, cli: Cli, flags: list[str]) -> None:
    use_registry(fake=FakeBackend())
    code, out, err = cli("train", *flags)
    assert code == 0
    assert out.splitlines()[0].startswith("4 steps in ")
    assert "model:  run/model" in out
    assert "8 rows, read as prompt_completion" in err
    assert "step 4/4  loss 0.25" in err


class Measuring(FakeBackend):
    """A backend whose evaluation finds more than a loss."""

    @hookimpl
    def build_trainer(self, request: TrainRequest) -> FakeTrainer:
        found = {"loss": 0.69361, "f1_macro": 0.73333333, "exact_match": 0.5, "num_tokens": 99.0, "entropy": 1.0}
        trainer = super().build_trainer(request)
        trainer.evaluate = lambda: found | {"completions/mean_length": 4.0}  # type: ignore[method-assign]
        return trainer


def test_train_tells_task_and_model_type_with_who_says_so_and_what_an_evaluation_finds(
    use_registry: Use, cli: Cli, flags: list[str]
) -> None:
    use_registry(fake=Measuring())
    _, out, err = cli(
        "train", *flags[:-3], "--max-steps=1", "--eval-steps=1", "--logging-steps=1", "--eval-fraction=0.2"
    )
    told = "task instruction_following, read off the rows; model type causal_lm, read off the checkpoint"
    assert told in err.splitlines()[:4]
    found = "loss 0.6936  f1_macro 0.7333  exact_match 0.5"
    assert f"eval step 1/1  {found}" in err.splitlines()
    assert out.splitlines()[0].startswith("1 step in ")
    assert out.splitlines()[1] == f"eval:   {found}"
    again = ["--overwrite", "--task-type=chat_completion", "--model-type=causal_lm"]
    assert "task chat_completion, as set; model type causal_lm, as set" in cli("train", *flags, *again)[2]


def test_quiet_prints_the_result_only(use_registry: Use, cli: Cli, flags: list[str]) -> None:
    use_registry(fake=FakeBackend())
    code, out, err = cli("train", *flags, "--quiet")
    assert (code, err) == (0, "")
    assert out.startswith("4 steps in ")


def test_resume_needs_nothing_but_the_folder(use_registry: Use, cli: Cli, flags: list[str]) -> None:
    def stop(step: int) -> None:
        if step == 3:
            raise ZeroDivisionError

    use_registry(fake=FakeBackend(on_step=stop))
    assert cli("train", *flags, "--quiet")[0] == 3
    steps: list[int] = []
    use_registry(fake=FakeBackend(on_step=steps.append))
    assert cli("train", "--resume", "run", "--quiet")[0] == 0
    assert steps == [3, 4]


def test_a_finished_run_is_exit_0_and_stays(use_registry: Use, cli: Cli, flags: list[str]) -> None:
    use_registry(fake=FakeBackend())
    cli("train", *flags, "--quiet")
    before = Path("run/run.json").stat().st_mtime_ns
    code, _, err = cli("train", "--resume", "run")
    assert code == 0
    assert "already finished" in err
    assert Path("run/run.json").stat().st_mtime_ns == before


def test_a_reader_that_goes_away_is_no_error() -> None:
    script = f"set -o pipefail; {sys.executable} -m aligntune train --help | head -1"
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
