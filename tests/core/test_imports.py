"""What answers at once imports no training library; every module can be imported alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import aligntune_core

HEAVY = {"torch", "transformers", "datasets", "trl", "peft", "unsloth", "accelerate"}
ROOT = Path(aligntune_core.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if path.stem != "__main__"
)

ANSWER = """
import contextlib, io, json, sys
with contextlib.redirect_stdout(io.StringIO()):
    {statement}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""

ALONE = """
import importlib, sys
before = set(sys.modules)
for name in {modules}:
    importlib.import_module(name)
    for loaded in set(sys.modules) - before:
        if loaded.startswith("aligntune"):
            del sys.modules[loaded]
print("done")
"""


def imported_by(statement: str, folder: Path) -> set[str]:
    """The top-level packages in memory after a statement, in a fresh interpreter."""
    code = ANSWER.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "list-backends",
        "matrix",
        "plugins",
        "diagnose",
        "explain sft",
        "validate run.yaml",
        "train --help",
        "completion bash",
    ],
)
def test_a_command_that_only_answers_imports_no_training_library(
    tmp_path: Path, command: str, fake_model: Path, chat_file: Path
) -> None:
    settings = {"model_name": str(fake_model), "dataset_name": str(chat_file)}
    (tmp_path / "run.yaml").write_text(json.dumps(settings), "utf-8")
    packages = imported_by(f"from aligntune_core.cli.main import run; run({command.split()!r})", tmp_path)
    assert "click" in packages
    assert not packages & HEAVY


def test_importing_aligntune_imports_next_to_nothing(tmp_path: Path) -> None:
    assert not imported_by("import aligntune", tmp_path) & (HEAVY | {"pydantic", "pluggy", "yaml", "rich", "click"})


def test_the_factory_imports_no_training_library(tmp_path: Path) -> None:
    statement = "from aligntune.core.backend_factory import create_sft_trainer, support_matrix; support_matrix()"
    assert not imported_by(statement, tmp_path) & HEAVY


def test_help_needs_neither_pydantic_nor_yaml(tmp_path: Path) -> None:
    packages = imported_by("from aligntune_core.cli.main import run; run(['--help'])", tmp_path)
    assert not packages & {"pydantic", "yaml"}


def test_every_module_can_be_imported_first() -> None:
    code = ALONE.format(modules=MODULES)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr
