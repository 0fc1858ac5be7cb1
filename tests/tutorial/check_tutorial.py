"""The tutorial as its reader follows it; run by `nox -s tutorial`, not by the default suite.

The ```bash blocks of docs/plugins/tutorial.md run unchanged and in order, in an empty folder with an empty home, and
what the page shows must be what is printed. What the page leaves to its reader comes by environment variables: where
the clone is (this checkout), which versions to take (those tested together), and where to publish (a package index on
this machine). It needs what the page needs: a package index to install from, as pip is configured. `pytest -s` tells
how long each block takes.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/plugins/tutorial.md"
CONSTRAINTS = ROOT / "constraints/trl-1.16.txt"
LONGEST = 1800
"""Seconds that a block may take."""
NOT_THE_READERS = re.compile("VIRTUAL_ENV|PYTHON|PYTEST|ALIGNTUNE|HF_|TRANSFORMERS_|PIP_|TWINE_|NOX|GIT_|COLUMNS|LINES")
"""Variables of whoever runs this that a reader with an empty home has not set."""

DRIVER = """\
. "$1"
trap 'declare -px > "$1"; printf "cd %q\\n" "$PWD" >> "$1"' EXIT
. "$2"
"""
"""Each block has a bash of its own, and begins with the folder and the variables that the one before left."""


@dataclass
class Block:
    """A block of commands: the exit code of its last, if the page says one, and the texts that it should print."""

    text: str
    exit_code: int = 0
    shown: list[str] = field(default_factory=list)


def blocks(page: str) -> list[Block]:
    """The blocks of bash of a page; a text belongs to the block above it, `<!-- exit: N -->` to the one below."""
    found: list[Block] = []
    code = 0
    for token in MarkdownIt().parse(page):
        if token.type == "html_block" and (said := re.search(r"exit: (\d+)", token.content)):
            code = int(said[1])
        elif token.type == "fence" and token.info == "bash":
            found.append(Block(token.content, code))
            code = 0
        elif token.type == "fence" and token.info == "text":
            found[-1].shown.append(token.content)
    return found


def plain(text: str) -> str:
    """Without colours, the first tries of lines that were overwritten, and blanks at their ends."""
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    return "\n".join(line.rpartition("\r")[2].rstrip() for line in text.replace("\r\n", "\n").split("\n"))


def is_printed(shown: str, printed: str) -> bool:
    """Whether whole lines of the one are lines of the other, in order; `…` stands for any text, also of many lines."""
    pattern = ".*".join(re.escape(part) for part in plain(shown).strip("\n").split("…"))
    return re.search(f"^{pattern}$", plain(printed), re.MULTILINE | re.DOTALL) is not None


def pip_settings() -> dict[str, str]:
    """What pip is configured to do here, as variables: an empty home has no configuration."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    pairs = [line.partition("=") for line in done.stdout.splitlines() if "=" in line]
    pairs.sort(key=lambda pair: pair[0].startswith(":env:"))  # a variable wins over a file
    return {f"PIP_{name.rpartition('.')[2].replace('-', '_').upper()}": ast.literal_eval(v) for name, _, v in pairs}


def path_of_the_reader() -> str:
    """PATH with the Python below this environment, and nothing of this environment."""
    before = os.environ.get("PATH", os.defpath).split(os.pathsep)
    outside = [folder for folder in before if not Path(folder).is_relative_to(sys.prefix)]
    return os.pathsep.join([str(Path(sys.base_prefix) / "bin"), *outside])


@dataclass
class Index:
    """A package index on this machine."""

    address: str
    folder: Path


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An empty package index that anybody may upload to, and that knows no other index."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "index"
    folder.mkdir()
    command = [sys.executable, "-m", "pypiserver", "run", "--interface", "127.0.0.1", "--port", str(port)]
    command += ["--authenticate", ".", "--passwords", ".", "--disable-fallback", str(folder)]
    with (tmp_path / "index.txt").open("w") as said, subprocess.Popen(command, stdout=said, stderr=said) as server:
        try:
            until = time.monotonic() + 30
            while server.poll() is None and time.monotonic() < until:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.1)
            assert server.poll() is None, f"pip install pypiserver\n{(tmp_path / 'index.txt').read_text('utf-8')}"
            yield Index(f"http://127.0.0.1:{port}", folder)
        finally:
            server.terminate()


class Reader:
    """Somebody at a bash, in an empty folder with an empty home.

    Args:
        folder: an empty one, for all of it.
        settings: the environment variables that the page leaves to the reader.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.place = folder / "place"
        self._state, self._block, self._driver = (folder / name for name in ("state.sh", "block.sh", "driver.sh"))
        for path in (self.place, folder / "home", folder / "tmp"):
            path.mkdir(parents=True)
        self._state.touch()
        self._driver.write_text(DRIVER, "utf-8")
        ours = {name: value for name, value in os.environ.items() if not NOT_THE_READERS.match(name)}
        own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "PATH": path_of_the_reader()}
        self._environment = {**ours, **own, "LANG": "C.UTF-8", "TERM": "dumb", **settings}

    def run(self, block: Block) -> str:
        """Run a block; returns what it printed, errors too."""
        self._block.write_text(block.text, "utf-8")
        command = ["bash", "-e", "-o", "pipefail", str(self._driver), str(self._state), str(self._block)]
        done = subprocess.run(
            command,
            cwd=self.place,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=LONGEST,
        )
        said = f"\n--- {PAGE.name}\n{block.text}\n--- exit code {done.returncode}, expected {block.exit_code}\n"
        assert done.returncode == block.exit_code, said + plain(done.stdout)
        for shown in block.shown:
            assert is_printed(shown, done.stdout), f"{said}{plain(done.stdout)}\n--- the page shows\n{shown}"
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path, index: Index) -> Reader:
    """A reader with a clone, with versions that were tested together, and with a place to publish to."""
    pip = pip_settings()
    pip["PIP_CONSTRAINT"] = f"{pip.get('PIP_CONSTRAINT', '')} {CONSTRAINTS}".strip()
    pip["PIP_EXTRA_INDEX_URL"] = f"{pip.get('PIP_EXTRA_INDEX_URL', '')} {index.address}/simple/".strip()
    twine = {"REPOSITORY_URL": f"{index.address}/", "USERNAME": "ada", "PASSWORD": "-", "NON_INTERACTIVE": "1"}
    return Reader(
        tmp_path / "reader", {**pip, **{f"TWINE_{k}": v for k, v in twine.items()}, "CLONE": str(ROOT), "COLUMNS": "80"}
    )


def test_the_tutorial_runs_as_it_stands(reader: Reader, index: Index) -> None:
    printed = ""
    for block in blocks(PAGE.read_text("utf-8")):
        began = time.monotonic()
        printed = reader.run(block)
        print(f"{time.monotonic() - began:6.1f} s  {block.text.splitlines()[0]}", flush=True)
    made = {"aligntune_mine-0.1.0-py3-none-any.whl", "aligntune_mine-0.1.0.tar.gz"}
    assert {path.name for path in index.folder.iterdir()} == made
    assert f"Downloading {index.address}" in printed
    shutil.rmtree(reader.place.parent)  # a few GB


PAGE_OF_TWO = """
<!-- exit: 3 -->

```bash
false
```

```text
one
```

```bash
true
```
"""


def test_a_text_belongs_to_the_block_above_it_and_an_exit_code_to_the_one_below() -> None:
    assert blocks(PAGE_OF_TWO) == [Block("false\n", 3, ["one\n"]), Block("true\n")]


@pytest.mark.parametrize(
    ("shown", "yes"),
    [
        ("two", True),
        ("one\ntwo", True),
        ("o…o", True),
        ("…\nthree", True),
        ("one\nthree", False),
        ("tw", False),
        ("two …", False),
        ("three\n…\none", False),
    ],
)
def test_what_is_shown_is_what_is_printed(shown: str, yes: bool) -> None:
    assert is_printed(shown, "zero\rone  \n\x1b[32mtwo\x1b[0m\nthree\n") is yes


def test_a_block_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "reader", {})
    reader.run(Block("mkdir 'a b'\ncd 'a b'\nexport NAME='x \"y\"'\nfalse\ntrue\n", 1))
    assert reader.run(Block('echo "$NAME in ${PWD##*/}"\n')) == 'x "y" in a b\n'
    assert not list((tmp_path / "reader/home").iterdir())
