"""From the settings to rewards: every way to name one, and what is said where there is none."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from aligntune_core.errors import ConfigError
from aligntune_core.rewards import Reward, RewardRegistry
from aligntune_core.rewards.resolve import check, resolve

from .conftest import Score

GOOD = """
from dataclasses import dataclass

@dataclass
class Judge:
    "Dataclasses look their module up in sys.modules."
    offset: float = 0.0

    def __call__(self, completion):
        return len(completion) + self.offset

judge = Judge(1.0)
NUMBER = 3

def count(completion):
    return len(completion)

class Space:
    @staticmethod
    def inner(completions):
        return [0.0] * len(completions)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with rewards.py in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rewards.py").write_text(GOOD, "utf-8")
    return tmp_path


def named(completion: str) -> float:
    return 1.0


def says(functions: list[Any], *, statically: bool = True, **kwargs: Any) -> str:
    """What is said of these, by `resolve` and by the check that runs no code."""
    texts = []
    for do in (resolve, check) if statically else (resolve,):
        with pytest.raises(ConfigError) as caught:
            do(functions, **kwargs)
        texts.append(str(caught.value))
    assert len({text.partition("; ")[0] for text in texts}) == 1
    return texts[0]


def test_a_file_is_named_from_the_working_directory_or_absolutely(here: Path, score: Score) -> None:
    addresses = ["rewards.py:count", f"{here}/rewards.py:judge", "./rewards.py:Space.inner"]
    check(addresses)
    rewards = resolve(addresses)
    assert [(r.name, r.source, r.portable) for r in rewards] == [
        ("count", "rewards.py:count", True),
        ("judge", f"{here}/rewards.py:judge", True),
        ("inner", "./rewards.py:Space.inner", True),
    ]
    assert [score(reward, ["abc"]) for reward in rewards] == [[3.0], [4.0], [0.0]]


def test_a_file_is_run_once_for_all_its_functions_and_again_when_it_has_changed(here: Path) -> None:
    (here / "counted.py").write_text("import os\nos.mkdir('ran')\ndef a(completion): return 0\nb = a\n", "utf-8")
    first, second = resolve(["counted.py:a", f"{here}/counted.py:b"])
    assert first.function is second.function
    (here / "counted.py").write_text("def a(completion): return 1\n", "utf-8")
    assert resolve(["counted.py:a"])[0].function("") == 1


def test_the_check_runs_nothing_of_a_file(here: Path) -> None:
    (here / "loud.py").write_text("open('ran', 'w')\ndef reward(completion): return 0\n", "utf-8")
    check(["loud.py:reward"])
    assert not (here / "ran").exists()


def test_a_module_is_named_by_its_import_path(here: Path, monkeypatch: pytest.MonkeyPatch, score: Score) -> None:
    monkeypatch.syspath_prepend(here)
    check(["rewards:count"])
    (reward,) = resolve(["rewards:count"])
    assert (reward.name, reward.source, reward.portable) == ("count", "rewards:count", True)
    assert score(reward, ["ab"]) == [2.0]
    sys.modules.pop("rewards")


def test_a_named_reward_may_have_options_and_any_spelling(score: Score) -> None:
    functions = ["exact_match", "Exact-Match", {"name": "format", "pattern": "<b>.*</b>"}]
    check(functions)
    exact, again, form = resolve(functions)
    assert [exact.name, again.name, form.name] == ["exact_match", "exact_match_2", "format"]
    assert form.source == "format(pattern='<b>.*</b>')"
    assert form.portable
    assert score(form, ["<b>\n</b>", "<b>"]) == [1.0, 0.0]


def test_python_objects_are_named_after_themselves() -> None:
    class Judge:
        def __call__(self, completion: str) -> float:
            return 0.0

    rewards = resolve([named, lambda completion: 0.0, functools.partial(named), Judge()])
    assert [reward.name for reward in rewards] == ["named", "lambda", "named_2", "Judge"]
    assert rewards[0].source == f"{__name__}:named"
    assert rewards[3].source.endswith("<locals>.Judge")
    assert not any(reward.portable for reward in rewards)


def test_every_reward_of_a_run_has_a_name_of_its_own() -> None:
    def f(completion: str) -> float:
        return 0.0

    def f_2(completion: str) -> float:
        return 0.0

    assert [reward.name for reward in resolve([f, f, f, f_2])] == ["f", "f_2", "f_3", "f_2_2"]


def test_weights_are_one_each_unless_given() -> None:
    assert [reward.weight for reward in resolve([named, named])] == [1.0, 1.0]
    assert [reward.weight for reward in resolve([named, named], (0, -2.5))] == [0.0, -2.5]


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ((1.0,), "reward_weights = (1.0,): 1 weight for 2 rewards; give one for each, or leave them out"),
        ((1.0, float("nan")), "reward_weights = nan: is no finite number; give numbers such as 1.0"),
        ((float("inf"), 1.0), "reward_weights = inf: is no finite number; give numbers such as 1.0"),
    ],
)
def test_bad_weights_are_refused(weights: tuple[float, ...], text: str) -> None:
    assert says([named, named], weights=weights) == text


def test_all_that_is_wrong_is_told_at_once(here: Path) -> None:
    text = says(["exact_mach", named, "gone.py:f", {"name": "format"}], weights=(1.0, float("nan")))
    assert [line.partition(":")[0].partition(" =")[0] for line in text.splitlines()] == [
        *("reward_functions",) * 3,
        *("reward_weights",) * 2,
    ]


FILES = {
    "syntax.py": "def f(completion):\n    return 0\n\ndef g(:\n",
    "nul.py": "x = '\0'\n",
    "folder.py/inner": "",
}
REFUSED: dict[str, tuple[Any, str]] = {
    "a misspelt name": ("exact_mach", "'exact_mach': no reward has this name; did you mean 'exact_match'?"),
    "an unknown name": ("qqq", "'qqq': no reward has this name; the rewards are: exact_match, format, json_schema"),
    "a dotted path": ("pkg.mod.f", "no reward has this name; a function in a module is written pkg.mod:f"),
    "a model's name": ("org/model", "is neither a reward nor a function; a reward model goes into reward_model_name"),
    "an empty text": ("", "no reward has this name"),
    "a file that is not there": ("gone.py:f", "'gone.py:f': this file does not exist; it is looked for in "),
    "a path with a null byte": ("a\0.py:f", "this file does not exist"),
    "a folder": ("folder.py:f", "this file does not exist"),
    "a file without a function": ("rewards.py", "'rewards.py': names no function; write rewards.py:name"),
    "a file with an empty name": ("rewards.py:", "names no function; write rewards.py:name"),
    "a name that is none": ("rewards.py:a b", "names no function"),
    "a function that is not in the file": ("rewards.py:cuont", "has no 'cuont'; did you mean 'count'?"),
    "a file that is no Python": (
        "syntax.py:f",
        "cannot be imported: SyntaxError: invalid syntax (syntax.py, line 4); mend",
    ),
    "a file with a null byte": ("nul.py:f", "source code string cannot contain null bytes; mend the file"),
    "a module that is not installed": ("no_such_module:f", "there is no module 'no_such_module'; install it, or write"),
    "a module that is a file here": ("rewards:count", "there is no module 'rewards'; write rewards.py:count"),
    "a number": (3, "reward_functions = 3: is a number; give a function, the name of a reward"),
    "nothing": (None, "reward_functions = None: is null; give a function"),
    "options without a name": ({"pattern": "x"}, "has no name; write {name: format, pattern: …}"),
    "options for a file": ({"name": "rewards.py:count", "a": 1}, "only rewards of the registry have options"),
    "options that are missing": ({"name": "format"}, "'format': the options do not fit: missing a required argument"),
    "an option that is unknown": (
        {"name": "format", "pattern": "x", "patern": "y"},
        "got an unexpected keyword argument 'patern'; its options are: pattern, full, seconds",
    ),
    "an option that is wrong": ({"name": "format", "pattern": "(a"}, "pattern is no regular expression: missing ), un"),
    "a class": (dict, "is a class; give an object of it"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_reward_that_cannot_be_is_refused_before_any_code_runs(kind: str, here: Path) -> None:
    for name, text in FILES.items():
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text(text, "utf-8")
    entry, expected = REFUSED[kind]
    text = says([entry])
    assert text.startswith("reward_functions = ")
    assert expected in text
    assert "; " in text
    assert text.isprintable()


BROKEN = {
    "raises": ("import json\n\nf = json.loads('{')\n", "'broken.py:f': cannot be imported: JSONDecodeError: "),
    "exits": ("f = 1\nimport sys\nsys.exit(0)\n", "tried to end the process: SystemExit: 0 (broken.py:3); mend"),
    "cannot be printed": (
        "class f(Exception):\n  def __str__(self): 1/0\nraise f\n",
        "cannot be imported: f (broken.p",
    ),
    "imports what is not there": (
        "import nonesuch\ndef f(completion): ...\n",
        "ModuleNotFoundError: No module named 'nonesuch' (broken.py:1); modules that it imports must be installed",
    ),
}
UNFIT = {
    "holds no function": ("f = 3\n", "'broken.py:f': is a number, and cannot be called; name a function"),
    "holds a wrong function": ("def f(x): ...\n", "takes neither completions nor completion"),
    "takes it away": ("f = 1\ndel f\n", "has no 'f'"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_fails_when_it_is_run_is_told_with_its_line(kind: str, here: Path) -> None:
    code, expected = BROKEN[kind]
    (here / "broken.py").write_text(code, "utf-8")
    before = set(sys.modules)
    assert expected in says(["broken.py:f"], statically=False)
    assert not [name for name in set(sys.modules) - before if name.startswith("aligntune_reward")]


@pytest.mark.parametrize("kind", UNFIT)
def test_a_file_that_holds_no_reward_is_refused(kind: str, here: Path) -> None:
    code, expected = UNFIT[kind]
    (here / "broken.py").write_text(code, "utf-8")
    assert expected in says(["broken.py:f"], statically=False)


def test_the_line_at_which_a_file_fails_is_its_own_not_the_librarys(here: Path) -> None:
    (here / "broken.py").write_text(BROKEN["raises"][0], "utf-8")
    assert "(broken.py:3); mend the file" in says(["broken.py:f"], statically=False)


def test_a_module_that_fails_at_import_is_not_called_missing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(here)
    (here / "half.py").write_text("import nonesuch\n", "utf-8")
    assert "cannot be imported: ModuleNotFoundError: No module named 'nonesuch'" in says(["half:f"], statically=False)


def test_ctrl_c_while_a_file_is_imported_stays_what_it_is(here: Path) -> None:
    (here / "slow.py").write_text("raise KeyboardInterrupt\n", "utf-8")
    with pytest.raises(KeyboardInterrupt):
        resolve(["slow.py:f"])


def test_a_star_import_may_bring_any_name(here: Path) -> None:
    (here / "star.py").write_text("from os.path import *\n", "utf-8")
    check(["star.py:whatever"])


def test_the_check_makes_nothing_of_a_plugins() -> None:
    made: list[int] = []

    def make(*, most: int) -> Any:
        made.append(most)
        return named

    registry = RewardRegistry.built_in().adding([Reward("own", make)], "own-plugin 1.0")
    check([{"name": "own", "most": 1}], registry=registry)
    assert made == []
    with pytest.raises(ConfigError, match="its options are: most"):
        check(["own"], registry=registry)
    assert resolve([{"name": "own", "most": 1}], registry=registry)[0].function is named
    assert made == [1]


def exits() -> Any:
    sys.exit(0)


@pytest.mark.parametrize("make", [exits, lambda: 1 / 0, lambda: None])
def test_a_plugins_reward_that_cannot_be_made_is_refused(make: Any) -> None:
    registry = RewardRegistry.built_in().adding([Reward("own", make)], "own-plugin 1.0")
    with pytest.raises(ConfigError, match=r"reward_functions = 'own': (cannot be made|is null)"):
        resolve(["own"], registry=registry)


def test_what_run_json_is_told_can_be_written(here: Path) -> None:
    rewards = resolve([named, "rewards.py:judge", {"name": "format", "pattern": "\n\ud800" * 2000}])
    assert all(reward.source.isprintable() and len(reward.source) <= 1000 for reward in rewards)
    json.dumps([reward.source for reward in rewards]).encode("ascii")


def test_a_file_leaves_no_compiled_copy_beside_it(here, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    resolve(["rewards.py:count"])
    assert [path.name for path in here.iterdir()] == ["rewards.py"]
