"""A check that is left out or replaced says why; else the author's class cannot be made."""

from __future__ import annotations

from typing import Any

import pytest

from aligntune_core.testing import BackendSuite, replaces

pytest_plugins = ["pytester"]

QUICK, TRAINS = "test_a_verdict_is_quick", "test_it_trains_something"


def subclass(*bases: type, **body: Any) -> type:
    """What `class TestMine(BackendSuite): …` makes."""
    return type("TestMine", (*bases, BackendSuite), {"backend": "mine", **body})


def redefined(self: BackendSuite) -> None:
    """A check of the same name that says nothing."""


class Mixin:
    def test_a_verdict_is_quick(self) -> None: ...


@pytest.mark.parametrize(
    ("bases", "body", "says"),
    [
        ((), {QUICK: redefined}, "takes the place of a check of the suite"),
        ((), {QUICK: None}, "takes the place of a check of the suite"),
        ((Mixin,), {}, "takes the place of a check of the suite"),
        ((), {"pytest_generate_tests": redefined}, "takes the place of a check of the suite"),
        ((), {"left_out": {QUICK: ""}}, "say in a sentence why it is left out"),
        ((), {"left_out": {QUICK: "slow"}}, "say in a sentence why it is left out"),
        ((), {"left_out": {QUICK: None}}, "say in a sentence why it is left out"),
        ((), {"left_out": {"test_a_verdict_is_quik": "it is slow here"}}, "is no check of the suite"),
        ((), {"left_out": {"registry": "it is slow here"}}, "is no check of the suite"),
        ((), {"pytestmark": pytest.mark.skip}, "is marked skip and does not say why"),
        ((), {"pytestmark": [pytest.mark.xfail()]}, "is marked xfail and does not say why"),
    ],
)
def test_without_a_reason_the_class_cannot_be_made(bases: tuple[type, ...], body: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        subclass(*bases, **body)


@pytest.mark.parametrize("reason", ["", "slow", "  ", None])
def test_a_replacement_needs_a_sentence(reason: Any) -> None:
    with pytest.raises(TypeError, match="say in a sentence"):
        replaces(reason)


def test_with_a_reason_it_can() -> None:
    subclass(**{QUICK: replaces("it asks a device that is slow")(lambda self: None)})
    subclass(left_out={QUICK: "it asks a device that is slow"})
    subclass(pytestmark=pytest.mark.skip(reason="the device is not here"))
    subclass(pytestmark=pytest.mark.skip("the device is not here"))


def test_a_subclass_of_a_subclass_keeps_its_reasons() -> None:
    class TestFirst(BackendSuite):
        @replaces("it asks a device that is slow")
        def test_a_verdict_is_quick(self) -> None: ...

    class TestSecond(TestFirst): ...

    with pytest.raises(TypeError, match="takes the place"):
        type("TestThird", (TestFirst,), {QUICK: redefined})


SUITE = """
import pytest
from aligntune_core.testing import BackendSuite, FakeBackend, replaces

{mark}
class TestMine(BackendSuite):
    backend = "mine"
    plugin = FakeBackend()
    left_out = {left_out}

    @replaces("the fake is asked in another way")
    def test_it_trains_something(self):
        pytest.skip("mine ran")
"""


def run(pytester: pytest.Pytester, *arguments: str, mark: str = "", left_out: str = "{}") -> pytest.RunResult:
    pytester.makepyfile(test_it=SUITE.format(mark=mark, left_out=left_out))
    return pytester.runpytest_inprocess("test_it.py", "-rs", "-p", "no:cacheprovider", *arguments)


def test_what_is_left_out_is_skipped_and_shows_the_reason(pytester: pytest.Pytester) -> None:
    left_out = {QUICK: "it asks a slow device", "test_every_machine_gets_a_verdict[win32]": "there is none yet"}
    done = run(pytester, "-k", "verdict", left_out=repr(left_out))
    done.assert_outcomes(passed=5, skipped=2)
    text = done.stdout.str()
    assert "it asks a slow device" in text
    assert "there is none yet" in text


def test_what_replaces_a_check_runs_in_its_place(pytester: pytest.Pytester) -> None:
    run(pytester, "-k", TRAINS).stdout.fnmatch_lines(["*mine ran"])


def test_parameters_that_there_are_not_are_refused(pytester: pytest.Pytester) -> None:
    done = run(pytester, left_out="{'test_every_machine_gets_a_verdict[amiga]': 'there is none yet'}")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*amiga*which there is not*[[]linux]*"])


def test_a_decorator_that_skips_without_a_reason_is_refused(pytester: pytest.Pytester) -> None:
    done = run(pytester, mark="@pytest.mark.skip")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*TestMine is marked skip and does not say why*"])


def test_a_suite_without_a_backend_says_what_is_missing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it="from aligntune_core.testing import BackendSuite\nclass TestMine(BackendSuite): ...")
    done = pytester.runpytest_inprocess("test_it.py")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*TestMine does not say which backend it checks*"])
