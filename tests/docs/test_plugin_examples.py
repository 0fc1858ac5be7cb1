"""What the pages on plugins show: the packages work, the commands print what stands there, the tables are complete."""

from __future__ import annotations

import inspect
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from aligntune import ConfigError, Trainer, get_trainer
from aligntune_core.cli.main import run
from aligntune_core.config import CORE_SETTINGS, GrpoConfig
from aligntune_core.discovery import PLUGINS
from aligntune_core.plugins import BackendRegistry
from aligntune_core.plugins.probe import ask_child
from aligntune_core.plugins.process_state import _STATE
from aligntune_core.rewarding import resolve_rewards
from aligntune_core.runs import metrics
from aligntune_core.testing import BackendSuite, FakeBackend
from aligntune_core.testing.fake_backend import write_fake_model
from aligntune_core.testing.installed_plugin import write_plugin
from aligntune_core.testing.suite.base import SuiteBase
from aligntune_core.values import Callback

DOCS = Path(__file__).resolve().parents[2] / "docs"
OVERVIEW, SUITE = DOCS / "plugins/overview.md", DOCS / "plugins/conformance.md"
EXTENSIONS, CONTROL = DOCS / "plugins/commands-and-trackers.md", DOCS / "user-guide/plugins.md"
SELECTION = DOCS / "getting-started/backend-selection.md"
Install = Callable[..., Path]


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """The heading above and the text of each block of code in a language."""
    found, heading, previous = [], "", None
    for token in MarkdownIt().parse(page.read_text("utf-8")):
        if previous == "heading_open":
            heading = token.content
        elif token.type == "fence" and token.info == language:
            found.append((heading, token.content))
        previous = token.type
    return found


def block(page: Path, heading: str, language: str) -> str:
    """The first block of a language under a heading."""
    return next(text for above, text in blocks(page, language) if above == heading)


# the two packages


@dataclass(frozen=True)
class Package:
    """A package of two files, as the page shows it."""

    pyproject: str
    module: str
    code: str

    @property
    def project(self) -> Mapping[str, Any]:
        project: Mapping[str, Any] = tomllib.loads(self.pyproject)["project"]
        return project

    def install(self, install_plugin: Install) -> None:
        ((group, entries),) = self.project["entry-points"].items()
        ((name, module),) = entries.items()
        assert (group, module) == (PLUGINS, self.module)
        install_plugin(
            name,
            self.code,
            group=group,
            module=module,
            distribution=self.project["name"],
            version=self.project["version"],
            requires=self.project["dependencies"],
        )


def package(heading: str) -> Package:
    pyproject, code = (block(EXTENSIONS, heading, language) for language in ("toml", "python"))
    assert pyproject.startswith("# pyproject.toml\n")
    return Package(pyproject, code.partition("\n")[0].removeprefix("# ").removesuffix(".py"), code)


@pytest.fixture
def start(use_registry: Callable[..., BackendRegistry], fake_model: Path, chat_file: Path, in_tmp: Path) -> Any:
    """Give `start(FakeBackend(…), setting=…)`: a quiet trainer of six steps in the folder `run`."""

    def get(fake: FakeBackend | None = None, **settings: Any) -> Trainer:
        use_registry(fake=fake or FakeBackend())
        usual: dict[str, Any] = {"model_name": str(fake_model), "dataset_name": str(chat_file), "output_dir": "run"}
        usual |= {"max_steps": 6, "save_steps": 2, "logging_steps": 1}
        trainer = get_trainer("sft", **{**usual, **settings})
        trainer.listen()
        return trainer

    return get


@pytest.mark.parametrize("heading", ["Commands", "Trackers", "Rewards"])
def test_a_package_builds_into_a_wheel_that_has_its_entry_point(heading: str, tmp_path: Path) -> None:
    made = package(heading)
    (tmp_path / "pyproject.toml").write_text(made.pyproject, "utf-8")
    (tmp_path / f"{made.module}.py").write_text(made.code, "utf-8")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    (wheel,) = (tmp_path / "dist").iterdir()
    files = zipfile.ZipFile(wheel)
    (points,) = (name for name in files.namelist() if name.endswith("entry_points.txt"))
    name = made.project["name"].removeprefix("aligntune-")
    assert files.read(points).decode().split() == ["[aligntune.plugins]", name, "=", made.module]
    assert f"{made.module}.py" in files.namelist()


def test_the_command_prints_the_runs_that_there_are(
    install_plugin: Install, start: Any, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package("Commands").install(install_plugin)
    start(max_steps=3, output_dir="runs/first").train()
    for command, expected in commands(block(EXTENSIONS, "Commands", "console")):
        capsys.readouterr()
        code = run(shlex.split(command)[1:])
        said = capsys.readouterr()
        assert said.out + said.err == expected
        assert code == (2 if expected.startswith("error: ") else 0)


def table(trainer: Trainer) -> list[list[str]]:
    """The losses in `metrics.jsonl`, as the tracker writes them."""
    rows = metrics.read(trainer.run_dir / "metrics.jsonl")
    return [["step", "split", "loss"], *([str(row["step"]), row["split"], str(row["loss"])] for row in rows)]


def written() -> list[list[str]]:
    return [line.split(",") for line in Path("run/losses.csv").read_text("utf-8").splitlines()]


def test_the_tracker_writes_the_losses(install_plugin: Install, start: Any) -> None:
    package("Trackers").install(install_plugin)
    trainer = start(report_to="losses", eval_fraction=0.25, eval_steps=3)
    trainer.train()
    assert written() == table(trainer)
    assert len(written()) == 1 + 6 + 2


def test_the_reward_is_found_by_its_name_and_takes_its_option(install_plugin: Install) -> None:
    package("Rewards").install(install_plugin)
    (reward,) = resolve_rewards(GrpoConfig(reward_functions=({"name": "polite", "word": "thanks"},)))
    assert reward(["Hi"] * 2, ["Many Thanks", "Please"], columns={}, timeout=10) == [1.0, 0.0]
    with pytest.raises(ConfigError, match="word must not be empty"):
        resolve_rewards(GrpoConfig(reward_functions=({"name": "polite", "word": ""},)))


def test_the_tracker_goes_on_where_a_run_goes_on(install_plugin: Install, start: Any) -> None:
    package("Trackers").install(install_plugin)

    def stop(step: int) -> None:
        if step == 5:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        start(FakeBackend(on_step=stop), report_to="losses").train()
    assert len(written()) == 1 + 4
    trainer = start(report_to="losses", resume=True)
    trainer.train()
    assert written() == table(trainer)
    assert len(written()) == 1 + 6


class Order(Callback):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        for name in ("start", "step", "row", "stop", "end"):
            setattr(self, name, lambda *args, name=name: self.heard.append(name))


def test_a_callback_hears_what_the_page_says_in_that_order(start: Any) -> None:
    (sentence,) = (line for line in EXTENSIONS.read_text("utf-8").split("\n- ") if line.startswith("A [`Callback`]"))
    named = [name for name in re.findall(r"`(\w+)`", sentence) if name in vars(Callback)]
    order, trainer = Order(), start(max_steps=1)
    trainer.listen(order)
    trainer.train()
    assert order.heard == named[: len(order.heard)] == ["start", "step", "row", "stop", "end"]


# the algorithm

REST = """
from aligntune_core.testing import FakeBackend


class Plugin(FakeBackend):
    provides_algorithms = staticmethod(provides_algorithms)


plugin = Plugin()
"""


@pytest.fixture
def smooth(install_plugin: Install) -> None:
    code = block(OVERVIEW, "Algorithms of your own", "python")
    install_plugin("mine", f"{code}{REST}", attribute="plugin")


def test_the_algorithm_is_explained_and_trains_with_its_setting(
    smooth: None, fake_model: Path, chat_file: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["explain", "smooth_sft"]) == 0
    assert "Smoothed SFT  (smooth_sft)" in capsys.readouterr().out
    flags = ["--backend=mine", f"--model-name={fake_model}", f"--dataset-name={chat_file}", "--output-dir=run"]
    assert run(["train", "--algorithm", "smooth_sft", "--label-smoothing", "0.2", *flags]) == 0
    assert json.loads(Path("run/run.json").read_text("utf-8"))["config"]["label_smoothing"] == 0.2
    capsys.readouterr()
    ((command, expected),) = commands(block(OVERVIEW, "Algorithms of your own", "console"))
    assert run([*shlex.split(command)[1:], *flags]) == 2
    assert capsys.readouterr().err == expected


# the conformance suite


@pytest.mark.parametrize("text", [text for _, text in blocks(SUITE, "python")])
def test_a_class_of_the_suite_can_be_made_as_it_is_shown(text: str, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(text, "utf-8")
    assert issubclass(runpy.run_path(str(tmp_path / "example.py"))["TestMine"], BackendSuite)


def test_the_suite_checks_what_the_page_says() -> None:
    listed = re.findall(r"^\| `(test_\w+)` \|", SUITE.read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(name for name in dir(BackendSuite) if name.startswith("test_"))


def test_the_page_names_each_thing_that_an_author_may_set() -> None:
    attributes = re.findall(r"^    (\w+): ", inspect.getdoc(SuiteBase) or "", re.MULTILINE)
    rows = [line.split(" | ") for line in block_of(SUITE, "What you may set").splitlines() if line.startswith("| `")]
    given = {name.strip("|` "): default.strip("`") for name, default, *_ in rows}
    assert [name for name in given if "(" not in name] == attributes
    assert {name: given[name] for name in attributes[1:]} == {
        name: str(getattr(SuiteBase, name)).replace("e-05", "e-5") for name in attributes[1:]
    }
    for method in (name.partition("(") for name in given if "(" in name):
        arguments = inspect.signature(getattr(SuiteBase, method[0])).parameters
        assert f"({', '.join(list(arguments)[1:])})" == method[1] + method[2]


def test_the_page_names_what_core_honours_itself() -> None:
    text = re.search(r"These it honours itself.*?trackers", OVERVIEW.read_text("utf-8"), re.DOTALL)
    assert text is not None
    assert set(re.findall(r"`(\w+)`", text[0])) == CORE_SETTINGS


def test_each_field_of_a_record_is_explained() -> None:
    (record, *_) = ask_child()
    rows = re.findall(r"^\| (`.*?`) \| ", block_of(CONTROL, "What is installed"), re.MULTILINE)
    assert [name.strip("`") for row in rows for name in row.split(", ")] == list(record)


def test_the_page_names_all_that_is_put_back() -> None:
    said = " ".join(block_of(CONTROL, "What a plugin can do to your process").split())
    assert [what for what in _STATE if what not in said] == []


def block_of(page: Path, heading: str) -> str:
    """All text under a heading."""
    return page.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


# the commands that are shown with what they print

GOOD = """
from aligntune_core.testing import FakeBackend

fake = FakeBackend()
provides_algorithms, is_available = fake.provides_algorithms, fake.is_available
build_trainer, tiny_model = fake.build_trainer, fake.tiny_model
"""
BROKEN = "import fasttrain"
MINE = {"module": "aligntune_mine", "version": "0.1.0"}


def commands(text: str) -> list[tuple[str, str]]:
    """Each command of a console with what it prints."""
    parts = re.split(r"^\$ (.*\n)", text, flags=re.MULTILINE)[1:]
    return [(command.strip(), said) for command, said in zip(parts[::2], parts[1::2], strict=True)]


def collapsed(text: str) -> str:
    """Without what depends on the width of a terminal."""
    return "\n".join(" ".join(line.split()) for line in text.split("\n")).strip()


def is_printed(shown: str, printed: str) -> bool:
    """Whether it is the whole of what was printed; `…` stands for any text."""
    pattern = r".*".join(re.escape(part) for part in collapsed(shown).split("…"))
    return re.fullmatch(pattern, collapsed(printed), re.DOTALL) is not None


class Place:
    """A folder in which somebody types, with plugins of theirs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site = folder, folder / "site"
        write_fake_model(folder / "model")
        rows = [{"prompt": f"{n} + 1 = ", "completion": str(n + 1)} for n in range(8)]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        (folder / "sft.yaml").write_text("backend: mine\nmodel_name: model\ndataset_name: rows.jsonl\n", "utf-8")

    def install(self, name: str, code: str, **more: Any) -> None:
        write_plugin(self.site, name, code, **{**MINE, **more})

    def type(self, command: str) -> str:
        """Run a command; returns what it printed, errors too."""
        words = shlex.split(command)
        if words[0] == "cat":
            return (self.folder / words[1]).read_text("utf-8")
        given = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
        assert words[len(given)] == "aligntune"
        allowed = {"ALIGNTUNE_PLUGINS": "mine,losses,trl", "COLUMNS": "120"} | given
        environment = {**os.environ, "PYTHONPATH": str(self.site), "HF_HUB_OFFLINE": "1", **allowed}
        done = subprocess.run(
            [sys.executable, "-m", "aligntune", *words[len(given) + 1 :]],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return "\n".join(line for line in done.stdout.split("\n") if "no installed plugin is called so" not in line)


def a_good_one(place: Place) -> None:
    place.install("mine", GOOD)


def a_broken_one(place: Place) -> None:
    place.install("mine", BROKEN)


def two_of_one_name(place: Place) -> None:
    place.install("mine", GOOD)
    place.install("mine", GOOD, distribution="aligntune-other", module="aligntune_other")


def one_that_ends_the_process(place: Place) -> None:
    place.install("mine", "import os\nos._exit(0)")


def a_tracker(place: Place) -> None:
    place.install("mine", GOOD)
    made = package("Trackers")
    place.install("losses", made.code, group=PLUGINS, module=made.module)


def a_run_of_an_earlier_version(place: Place) -> None:
    place.install(
        "mine", GOOD.replace("FakeBackend()", "FakeBackend(on_step=lambda step: exit() if step == 3 else None)")
    )
    place.type("aligntune train sft.yaml --max-steps 4 --save-steps 2 --output-dir run")
    (info,) = place.site.glob("*.dist-info")
    shutil.rmtree(info)
    place.install("mine", GOOD, version="0.2.0")


SCENES: Mapping[tuple[Path, str], Callable[[Place], None]] = {
    (CONTROL, "What is installed"): a_good_one,
    (CONTROL, "Which ones load"): a_good_one,
    (CONTROL, "When one breaks"): a_broken_one,
    (CONTROL, "Names"): two_of_one_name,
    (CONTROL, "What a run keeps of them"): a_run_of_an_earlier_version,
    (CONTROL, "What a plugin can do to your process"): one_that_ends_the_process,
    (SELECTION, "How `auto` decides"): a_good_one,
    (EXTENSIONS, "Trackers"): a_tracker,
}
"""What is installed where a console is shown."""
SHOWN = [(p, h, text) for p in (CONTROL, SELECTION, EXTENSIONS) for h, text in blocks(p, "console") if (p, h) in SCENES]


def test_each_console_has_its_scene() -> None:
    consoles = sum(len(blocks(page, "console")) for page in DOCS.rglob("*.md"))
    assert consoles == len(SHOWN) + 2  # that of the commands and that of the algorithm have tests of their own


@pytest.mark.parametrize(("page", "heading", "text"), SHOWN, ids=[f"{p.stem}: {h}" for p, h, _ in SHOWN])
def test_a_command_prints_what_is_shown(page: Path, heading: str, text: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    SCENES[page, heading](place)
    for command, expected in commands(text):
        printed = place.type(command)
        assert is_printed(expected, printed), f"$ {command}\n{printed}"
