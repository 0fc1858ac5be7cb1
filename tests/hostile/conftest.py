"""Hostile plugins as data, really installed beside a good one, and AlignTune's command line as a real process.

A file of `plugins/` is `{"plugins": [plugin, …]}`; a plugin has these keys, of which it needs `id` and one that says
what its code is:

    id        a sentence: what it does
    module    its code: the whole module, after PRELUDE
    backend   its code: methods of a backend that is good otherwise
    trainer   its code: methods of a trainer that is good otherwise
    claims    its code: what `provides_algorithms` gives, an expression
    verdict   its code: what `is_available` gives, an expression
    hook      its code: a function of a plugin of the group aligntune.plugins, to be marked
    callback  its code: methods of a tracker's callback

    name          of the entry point; `odd` unless given
    distribution, version, requires, attribute, entry_points   as `write_plugin` takes them
    second        name and distribution of a second entry point with the same code
    files         path in the folder of installed plugins → content, once all is installed; null takes it away, and
                  {repeat: [text, times]} and {hex: bytes} are contents too
    calls         command line, instead of `train` with it
    script        Python that is run after a run with it, with `trainer` as its name; its error is what ends it

What is to happen; without any of the first three it is loaded and can be used:

    broken    [phase, type, part of the message]: it is left out, and the others are not
    refused   part of the reason: it is loaded and cannot be used
    unknown   true where nothing of it is to be seen
    warns     part of a warning that names it
    ends      [exit code, part of the line of error, or of the output] of a command that asks for it
    quiet     true where no line of the error has its name
    takes_good    true where it takes the good one with it, by design
    ends_process  true where the process ends in its name: it cannot be interrupted
    fails     the method in which its callback fails; the run goes on
    interrupts    true where it is like Ctrl-C
    stands    true where the name goes on to mean another
    tried     the commands that it is tried with, all of EVERY unless given; a file may say so for all its plugins
    prints    true where it writes to standard error itself, past us
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from aligntune_core.algorithms import fold
from aligntune_core.discovery import BACKENDS, PLUGINS, names
from aligntune_core.testing.fake_backend import write_fake_model
from aligntune_core.testing.installed_plugin import RANGE, write_plugin

GOOD = "from aligntune_core.testing import FakeBackend\nplugin = FakeBackend()\n"
PRELUDE = """\
import os, signal, sys, threading, time
from aligntune_core import Algorithm, AlgorithmSupport, Availability, Callback, Support, hookimpl
from aligntune_core.config import SftConfig, TrainingConfig
from aligntune_core.testing import FakeBackend, FakeTrainer
FULL = {("instruction_following", "causal_lm"): Support("full")}
class Plain(FakeTrainer):
    def train(self, events):
        events.start(3)
        for step in (1, 2, 3): events.step(step)
"""
BUILDS = """
class OddTrainer(Plain):
{}
class Odd(FakeBackend):
    @hookimpl
    def build_trainer(self, request):
        return OddTrainer(request, lambda step: None, lambda step: 1 / step)
plugin = Odd()
"""
METHODS = """
class Odd(FakeBackend):
{}
plugin = Odd()
"""
CLAIMS = """
class Odd(FakeBackend):
    @hookimpl
    def provides_algorithms(self):
        return {}
plugin = Odd()
"""
VERDICT = """
class Odd(FakeBackend):
    @hookimpl
    def is_available(self, environment):
        return {}
plugin = Odd()
"""
TRACKS = """
class OddCallback(Callback):
{}
@hookimpl
def provides_callbacks(run):
    return [OddCallback()]
"""
SCRIPT = """
from aligntune import create_sft_trainer
with create_sft_trainer(backend={name!r}, model_name="model", dataset_name="rows.jsonl", eval_dataset_name="rows.jsonl",
                        output_dir="out", max_steps=3) as trainer:
    trainer.listen()
    trainer.train()
    {script}
"""
EVERY = ["help", "list", "diagnose", "plugins", "good", "itself"]
LIMIT = 1.0
HANGS = 40.0
"""Seconds after which a command hangs: a plugin that cannot be interrupted has a few more than its limit."""
LONGEST_LINE = 1200
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
ROWS = [{"prompt": f"What is {n} + 1? ", "completion": str(n + 1)} for n in range(8)]


def _text(given: Any) -> str:
    if isinstance(given, Mapping) and "repeat" in given:
        text, times = given["repeat"]
        return str(text) * int(times)
    return str(given)


def _code(plugin: Mapping[str, Any]) -> tuple[str, str]:
    """The text of the plugin's module, and the attribute that its entry point names."""
    for key, frame in (("trainer", BUILDS), ("claims", CLAIMS), ("verdict", VERDICT), ("callback", TRACKS)):
        if key in plugin:
            inner = str(plugin[key]).strip() if key in ("claims", "verdict") else textwrap.indent(plugin[key], "    ")
            return PRELUDE + frame.format(inner), "" if key == "callback" else "plugin"
    if "backend" in plugin:
        return PRELUDE + METHODS.format(textwrap.indent(plugin["backend"], "    ")), "plugin"
    if "hook" in plugin:
        return f"{PRELUDE}import click\n@hookimpl\n{plugin['hook']}", ""
    return PRELUDE + plugin["module"], ""


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """One hostile plugin; `data` is as its file has it."""

    data: Mapping[str, Any]
    id: str = field(init=False)
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", self.data["id"])
        object.__setattr__(self, "name", _text(self.data.get("name", "odd")))

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        return self.data.get(key)

    @property
    def group(self) -> str:
        return PLUGINS if "hook" in self.data or "callback" in self.data else BACKENDS

    def is_called(self, name: str, distribution: str) -> bool:
        """Whether a record of a report is of this one."""
        return name == self.name or distribution.startswith("aligntune-odd")

    @property
    def is_backend(self) -> bool:
        return self.group == BACKENDS

    @property
    def end(self) -> tuple[int, str]:
        """The exit code of a command that asks for it, and a part of what it says."""
        if self.ends:
            return self.ends[0], self.ends[1]
        if self.interrupts:
            return 130, ""
        if self.ends_process:
            return 3, "it does not end"
        told = self.broken[2] if self.broken else self.refused
        return (0, "") if told is None else (3, told)

    @property
    def command(self) -> list[str]:
        """The command line that asks for it, without `aligntune`."""
        if self.calls:
            return list(self.calls)
        if "callback" in self.data or "provides_callbacks" in str(self.hook):
            return train("good", "--report-to", self.name)
        return train(self.name)

    def install(self, site: Path) -> None:
        """Write it, and its second self, into the folder of installed plugins."""
        code, attribute = _code(self.data)
        given = {key: _text(self.data[key]) for key in ("distribution", "version") if key in self.data}
        given.setdefault("distribution", "aligntune-odd")
        options: dict[str, Any] = {
            "group": self.group,
            "requires": [_text(text) for text in self.data.get("requires", RANGE)],
            "attribute": self.data.get("attribute", attribute),
            "module": "odd_plugin",
        }
        if "entry_points" in self.data:
            options["entry_points"] = self.entry_points
        write_plugin(site, self.name, code, **given, **options)
        if self.second:
            write_plugin(site, code=code, version="2.0", **{**options, "module": "second_plugin"}, **self.second)
        for path, content in (self.files or {}).items():
            _write(site / path, content)


def _write(path: Path, content: Any) -> None:
    if content is None:
        path.unlink()
    elif isinstance(content, Mapping) and "hex" in content:
        path.write_bytes(bytes.fromhex(content["hex"]))
    elif isinstance(content, Mapping) and "folder" in content:
        path.unlink()
        path.mkdir()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_text(content), "utf-8")


@cache
def hostile_plugins() -> tuple[Hostile, ...]:
    """All of them, file by file."""
    files = sorted(Path(__file__).with_name("plugins").glob("*.yaml"))
    read = [yaml.safe_load(path.read_text("utf-8")) for path in files]
    return tuple(
        Hostile(data={"tried": file.get("tried", EVERY)} | plugin) for file in read for plugin in file["plugins"]
    )


def train(backend: str, *more: str) -> list[str]:
    """The command line of a short run with a backend."""
    files = ["--model-name", "model", "--dataset-name", "rows.jsonl", "--output-dir", "out"]
    steps = ["--max-steps", "3", "--logging-steps", "1", "--save-steps", "2"]
    return ["train", "--backend", backend, *files, *steps, "--quiet", *more]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document."""
        return json.loads(self.out)

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.split("\n") if line.startswith("error: ")]

    def check_text(self, plugin: Hostile) -> None:
        """What holds for every command: lines of bounded length, and no control character of a plugin's."""
        for text in (self.out, "" if plugin.prints else self.err):
            assert max(map(len, text.split("\n"))) <= LONGEST_LINE, text[:2000]
            assert not UNPRINTABLE.search(text), text[:2000]


@dataclass(frozen=True)
class Place:
    """A folder with installed plugins, a model and rows."""

    home: Path
    plugin: Hostile | None = None

    @property
    def site(self) -> Path:
        return self.home / "site"

    def run(self, *arguments: str) -> Done:
        """`python -m aligntune` here, as a process."""
        return self._process("-m", "aligntune", *arguments)

    def ask(self) -> Done:
        """Ask for the plugin by name."""
        assert self.plugin is not None
        if self.plugin.script:
            return self._process("-c", SCRIPT.format(name=self.plugin.name, script=self.plugin.script))
        return self.run(*self.plugin.command)

    def train_good(self) -> Done:
        """A short run with the good one."""
        return self.run(*train("good"))

    def _process(self, *arguments: str) -> Done:
        with subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.home, env=self._environment, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                out, err = process.communicate(timeout=HANGS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                out, err = process.communicate()
                raise AssertionError(f"it hangs: {arguments}; {err[-1000:]!r}") from None
        return Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))

    @property
    def _environment(self) -> dict[str, str]:
        """Every plugin that the tests did not install themselves is switched off."""
        mine = fold(self.plugin.name) if self.plugin else ""
        outside = ",".join(name for group in (BACKENDS, PLUGINS) for name in names(group) if fold(name) != mine)
        return {
            **os.environ, "PYTHONPATH": str(self.site), "ALIGNTUNE_PLUGIN_TIMEOUT": f"{LIMIT:g}", "COLUMNS": "200",
            "ALIGNTUNE_DISABLE_PLUGINS": outside,
        }  # fmt: skip

    @property
    def results(self) -> dict[str, Any]:
        """What the run in `out` left behind, without the times and the list of plugins."""
        out = self.home / "out"
        run = _strict((out / "run.json").read_text("utf-8"))
        for name in ("seconds", "plugins", "model_path", "peak_memory"):
            del run[name]
        rows, samples = ([_strict(line) for line in _lines(out / f"{name}.jsonl")] for name in ("metrics", "samples"))
        files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.suffix not in (".html", ".txt")]
        return {
            "run": run,
            "rows": [{**row, "time": 0} for row in rows],
            "files": [str(path.relative_to(out)) for path in files],
            "model": [path.read_bytes() for path in files if path.parent.name == "model"],
            "samples": samples,
        }


def _lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines() if path.exists() else []


def _strict(text: str) -> Any:
    """JSON as it is defined: without NaN and Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def lay_out(home: Path, plugin: Hostile | None = None) -> Place:
    """A good plugin, the hostile one, a model and rows."""
    place = Place(home, plugin)
    write_plugin(place.site, "good", GOOD, attribute="plugin")
    if plugin is not None:
        plugin.install(place.site)
    write_fake_model(home / "model")
    (home / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return place


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "tried(name): with which command a hostile plugin is tried here")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that wants a `plugin` is run for each, or for those in its module's KINDS, that is tried so."""
    if "plugin" not in metafunc.fixturenames:
        return
    found = hostile_plugins()
    kinds = getattr(metafunc.module, "KINDS", [p.id for p in found])
    assert set(kinds) <= {p.id for p in found}
    marks = [mark.args[0] for mark in metafunc.definition.iter_markers("tried")]
    chosen = [p for p in found if p.id in kinds and all(mark in p.tried for mark in marks)]
    metafunc.parametrize("plugin", chosen, ids=[p.id for p in chosen])


@pytest.fixture
def place(plugin: Hostile, tmp_path: Path) -> Iterator[Place]:
    return lay_out(tmp_path, plugin)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run leaves behind where the good plugin is alone."""
    place = lay_out(tmp_path_factory.mktemp("alone"))
    done = place.train_good()
    assert done.code == 0, done.err
    return place.results
