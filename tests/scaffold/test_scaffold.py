"""`aligntune plugin new NAME`: what it writes installs, is known everywhere, passes its tests and trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from aligntune_core.cli.main import run
from aligntune_core.cli.scaffold import write_backend
from aligntune_core.errors import ConfigError

NAME = "my_backend"
FOLDER = Path("aligntune-my-backend")
ROOT = Path(__file__).resolve().parents[2]


def test_it_writes_a_package_and_says_how_to_go_on(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugin", "new", NAME]) == 0
    assert "pip install -e 'aligntune-my-backend[test]'" in capsys.readouterr().out
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"]["aligntune.backends"] == {NAME: "aligntune_my_backend.plugin"}
    assert any(requirement.startswith("aligntune[data]>=") for requirement in project["dependencies"])
    files = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert {"README.md", "src/aligntune_my_backend/plugin.py", "tests/test_conformance.py"} <= files
    assert not [path for path in FOLDER.rglob("*") if path.is_file() and "$" in path.read_text("utf-8")]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("My-Backend", "such as my_backend"),
        ("1st", "such as st"),
        ("", "such as my_backend"),
        ("auto", "such as my_backend"),
        ("ɢood", "such as ood"),
        ("a" * 65, f"such as {'a' * 64}"),
        ("trl", "choose another name"),
        ("t_r_l", "choose another name"),
    ],
)
def test_a_name_that_a_backend_cannot_have_is_refused_with_one_that_it_can(
    in_tmp: Path, name: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        write_backend(name, Path("new"))
    assert caught.value.remedy == remedy
    assert not list(in_tmp.iterdir())


def test_what_is_there_already_stays_as_it_is(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FOLDER.mkdir()
    (FOLDER / "work.txt").write_text("mine", "utf-8")
    assert run(["plugin", "new", NAME]) == 2
    assert "something is there already; give another --path" in capsys.readouterr().err
    assert [path.name for path in FOLDER.iterdir()] == ["work.txt"]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment into which a new backend is installed; the libraries are those of this one."""
    folder = tmp_path_factory.mktemp("scaffold")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env/bin/python"
    query = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip())
    (site / "libraries.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n", "utf-8")
    write_backend(NAME, folder / FOLDER)
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*install, "--no-build-isolation", "-e", str(folder / FOLDER)], check=True, timeout=300)
    return python


def call(python: Path, *arguments: str, folder: Path | None = None) -> str:
    """Run it there, as its user does; returns what it prints."""
    environment = {**os.environ, "HOME": str(python.parent), "OMP_NUM_THREADS": "1"}
    environment |= {"ALIGNTUNE_PLUGINS": NAME, "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [str(python), "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_every_command_knows_it_once_it_is_installed(python: Path) -> None:
    assert NAME in json.loads(call(python, "aligntune", "list-backends", "--json"))["backends"]
    assert f"| Algorithm | {NAME} |" in call(python, "aligntune", "matrix", "--format", "markdown")
    assert NAME in call(python, "aligntune", "--help").partition("Backends:")[2]
    assert "For sft, auto takes my_backend." in call(python, "aligntune", "matrix", "--why", f"{NAME}/sft")
    (found,) = (p for p in json.loads(call(python, "aligntune", "plugins", "--json"))["plugins"] if p["name"] == NAME)
    assert (found["status"], found["distribution"]) == ("ok", "aligntune-my-backend")


MAKE = """
import pathlib, sys
from aligntune_my_backend.tiny import write_tiny_model
assert write_tiny_model("causal_lm", pathlib.Path(sys.argv[1]))
"""


@pytest.mark.heavy
def test_it_trains(python: Path, tmp_path: Path) -> None:
    model, rows = tmp_path / "tiny", tmp_path / "rows.jsonl"
    subprocess.run([str(python), "-c", MAKE, str(model)], check=True, timeout=300)
    rows.write_text('{"prompt": "Two and two?", "completion": " Four."}\n' * 4, "utf-8")
    settings = {"--model-name": model, "--dataset-name": rows, "--output-dir": tmp_path / "run", "--max-steps": 8}
    flags = [f"{flag}={value}" for flag, value in settings.items()]
    said = call(python, "aligntune", "train", "--backend", NAME, "--learning-rate=1e-2", "--logging-steps=1", *flags)
    assert "8 steps in" in said
    lines = (tmp_path / "run/metrics.jsonl").read_text("utf-8").splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.heavy
def test_its_own_tests_pass_at_once(python: Path) -> None:
    folder = python.parents[2] / FOLDER
    said = call(python, "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", folder=folder)
    assert " passed" in said
    assert "failed" not in said
