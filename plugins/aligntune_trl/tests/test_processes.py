"""Whole processes: nothing is sent, several ranks make one run, a killed run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

NO_NETWORK = """
import socket, sys
attempts = []
def refuse(*args, **kwargs):
    attempts.append(args[-1:])
    raise OSError("no network in this test")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = socket.create_connection = refuse
from aligntune_core.cli.main import run
code = run(sys.argv[1:])
print("ATTEMPTS", attempts)
sys.exit(code or bool(attempts))
"""


def command(tiny: Path, rows: Path, run_dir: Path, *more: str) -> list[str]:
    return [
        "train", "--model-name", str(tiny), "--dataset-name", str(rows), "--output-dir", str(run_dir),
        "--backend", "trl", "--batch-size", "4", "--gradient-accumulation-steps", "1", "--logging-steps", "1",
        "--max-seq-length", "128", *more,
    ]  # fmt: skip


def clean_environment(home: Path) -> dict[str, str]:
    """A user's environment with an empty home, and no variable that switches the network off."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "DISABLE_"))}
    return kept | {"HOME": str(home), "CUDA_VISIBLE_DEVICES": ""}


def test_a_whole_run_makes_no_connection_attempt_and_shows_only_what_a_user_needs(tiny, row_file, tmp_path):
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        [
            sys.executable, "-c", NO_NETWORK,
            *command(tiny, row_file, tmp_path / "run", "--max-steps", "2", "--use-peft"),
        ],
        capture_output=True, text=True, check=False, env=clean_environment(tmp_path / "home"), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "run"]
    said = done.stdout.splitlines()
    assert said[-1] == "ATTEMPTS []"
    assert [line.split()[0] for line in said[:-1]] == ["2", "model:", "report:"]
    lines = done.stderr.splitlines()
    assert sum(line.startswith("step ") for line in lines) == 2
    assert len(lines) == 6, done.stderr


@pytest.mark.heavy
def test_two_processes_make_one_run(tiny, row_file, tmp_path):
    """DDP on CPU: the batch is 2 × 2, so the losses are those of one process with 4, in evaluation too."""
    held_back = tmp_path / "held_back.jsonl"
    held_back.write_text("".join(row_file.read_text().splitlines(keepends=True)[:5]))
    evaluation = ["--eval-dataset-name", str(held_back), "--eval-steps", "3", "--eval-batch-size", "2"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "aligntune"]
    more = ("--max-steps", "3", *evaluation)
    arguments = command(tiny, row_file, tmp_path / "two", "--save-steps", "2", *more)
    arguments[arguments.index("--batch-size") + 1] = "2"
    done = subprocess.run(
        [*launch, *arguments], capture_output=True, text=True, check=False, timeout=240,
        env=clean_environment(tmp_path) | {"OMP_NUM_THREADS": "1"}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "two" / "run.json").read_text())
    assert (run["status"], run["steps_done"], run["selection"]["asked"]) == ("finished", 3, "trl")
    assert done.stdout.count("final loss") == 1
    rows = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["split"]) for row in rows] == [(1, "train"), (2, "train"), (3, "train"), (3, "eval")]
    subprocess.run(
        [sys.executable, "-m", "aligntune", *command(tiny, row_file, tmp_path / "one", *more)],
        capture_output=True, check=True, env=clean_environment(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    one = [json.loads(line)["loss"] for line in (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows] == pytest.approx(one, rel=2e-5)


def test_several_processes_need_one_output_dir(tiny, row_file, tmp_path):
    arguments = command(tiny, row_file, tmp_path)
    at = arguments.index("--output-dir")
    done = subprocess.run(
        [sys.executable, "-m", "aligntune", *arguments[:at], *arguments[at + 2 :]],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env=clean_environment(tmp_path) | {"WORLD_SIZE": "2"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "error: output_dir: is missing under a launcher of several processes; set output_dir" in done.stderr


@pytest.mark.heavy
def test_a_killed_run_goes_on_from_its_last_checkpoint(tiny, row_file, tmp_path):
    arguments = command(tiny, row_file, tmp_path / "run", "--num-epochs", "40", "--save-steps", "5")
    started = subprocess.Popen(
        [sys.executable, "-m", "aligntune", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environment(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoint-10").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    started.send_signal(signal.SIGKILL)
    started.wait()
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["status"] == "running"
    done = subprocess.run(
        [sys.executable, "-m", "aligntune", "train", "--resume", str(tmp_path / "run")],
        capture_output=True, text=True, check=False, env=clean_environment(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "going on from" in done.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (run["status"], run["steps_done"]) == ("finished", 200)


@pytest.mark.heavy
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_line_ends_with_the_signals_exit_code(tiny, row_file, tmp_path, number):
    started = subprocess.Popen(
        [sys.executable, "-m", "aligntune", *command(tiny, row_file, tmp_path / "run", "--num-epochs", "2000")],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=clean_environment(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    assert started.stderr is not None
    with started.stderr as shown:
        next(line for line in shown if line.startswith("step 3/"))
        started.send_signal(number)
        rest = shown.read()
    assert started.wait() == 128 + number
    assert f"go on with: aligntune train --resume {tmp_path / 'run'}" in rest
    assert list((tmp_path / "run").glob("checkpoint-*"))
