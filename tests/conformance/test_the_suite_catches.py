"""Each promise of the suite has a backend that breaks it, and the right check tells."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester"]


def sibling(name: str) -> Any:
    """A module beside this one, under its plain name, for the tests that are written below too."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MUTANTS: Mapping[str, Any] = sibling("mutants").MUTANTS

OBJECT = """
from aligntune_core.testing import BackendSuite, FakeDistribution, fake_entry
from mutants import MUTANTS

mutant = MUTANTS[{name!r}]


class TestMutant(BackendSuite):
    backend = "fake"
    plugin = fake_entry("fake", mutant.make(), FakeDistribution(requires=mutant.requires))
    other_values = {{"backend_options": {{"size": 1}}, "lora_target_modules": "query"}}
"""


@pytest.fixture(scope="module")
def everything_imported() -> None:
    """What a run imports: pytester takes out what is imported first within it, and NumPy cannot be imported twice."""
    for name in ("datasets", "jinja2", "matplotlib.pyplot", "filelock"):
        importlib.import_module(name)


def failures(pytester: pytest.Pytester, test: str) -> dict[str, str]:
    """Run one check of `TestMutant` in `test_it.py`: which parameters of it fail, and the text."""
    done = pytester.inline_run(f"test_it.py::TestMutant::{test}", "-p", "no:cacheprovider", "-W", "error")
    assert done.ret in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    return {report.nodeid: report.longreprtext for report in done.getfailures()}


@pytest.mark.usefixtures("everything_imported")
@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_promise_is_told(pytester: pytest.Pytester, name: str) -> None:
    pytester.makepyfile(test_it=OBJECT.format(name=name))
    mutant = MUTANTS[name]
    found = failures(pytester, mutant.check)
    assert found, f"{mutant.check} does not fail"
    assert any(mutant.words in text for text in found.values()), "\n".join(found.values())
