"""What an installed plugin does while it describes itself is seen in a process of its own."""

from __future__ import annotations

import pytest

from aligntune_core.testing import write_plugin

pytest_plugins = ["pytester"]

PLUGIN = """
import os
from aligntune_core import Availability, hookimpl
from aligntune_core.testing import FakeBackend
{at_import}

class Guest(FakeBackend):
    @hookimpl
    def is_available(self, environment):
        {when_asked}
        return Availability(True)

plugin = Guest()
"""
SUITE = """
from aligntune_core.testing import BackendSuite

class TestGuest(BackendSuite):
    backend = "guest"
"""
QUIET = "test_describing_prints_nothing"
HEAVY = "test_describing_imports_nothing_heavy"
UNCHANGED = "test_describing_leaves_the_process_as_it_was"


def describe(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *, at_import: str = "", when_asked: str = "pass"
) -> tuple[list[str], str]:
    """Install a plugin in an empty folder and run the checks that describe it: those that fail, and the text."""
    site = pytester.mkdir("site")
    code = PLUGIN.format(at_import=at_import, when_asked=when_asked)
    write_plugin(site, "guest", code, attribute="plugin")
    (site / "vllm.py").touch()  # something heavy by name
    monkeypatch.setenv("PYTHONPATH", str(site))
    pytester.syspathinsert(site)
    pytester.makepyfile(test_it=SUITE)
    done = pytester.inline_run("test_it.py", "-k", "describing or found or metadata", "-p", "no:cacheprovider")
    passed, skipped, failed = done.listoutcomes()
    assert len(passed) + len(failed) == 5, skipped
    return [report.location[2].partition(".")[2] for report in failed], "\n".join(r.longreprtext for r in failed)


def test_a_plugin_that_describes_itself_quietly_passes(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert describe(pytester, monkeypatch) == ([], "")


@pytest.mark.parametrize(
    ("code", "check", "words"),
    [
        ({"at_import": "import vllm"}, HEAVY, "its import imports vllm"),
        ({"when_asked": "import vllm"}, HEAVY, "is_available() imports vllm"),
        ({"at_import": "print('hello')"}, QUIET, "prints 'hello'"),
        ({"when_asked": "os.write(1, b'hello')"}, QUIET, "prints 'hello"),
        ({"at_import": "os.environ['TOKENIZERS_PARALLELISM'] = 'false'"}, UNCHANGED, "environment variables"),
        ({"when_asked": "os.chdir('/')"}, UNCHANGED, "the working directory"),
    ],
    ids=str,
)
def test_what_describing_must_not_do_is_told(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, code: dict[str, str], check: str, words: str
) -> None:
    failed, text = describe(pytester, monkeypatch, **code)
    assert failed == [check]
    assert words in text
