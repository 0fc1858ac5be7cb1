"""`is_available` on machines of every kind: it never raises, and a no says why and what to do."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from aligntune_core.config import TrainingConfig
from aligntune_core.environment import Device, Environment, InstalledPackages
from aligntune_core.plugins import Backend
from aligntune_core.plugins.border import LONGEST_REASON
from aligntune_core.testing.suite.base import Cell, SuiteBase
from aligntune_core.testing.suite.checking import check, listed
from aligntune_core.values import Availability, TrainRequest

GIB = 2**30
CPU = Device("cpu", "x86_64")
DEVICES: Mapping[str, tuple[Device, ...]] = {
    "no device": (),
    "a CPU": (CPU,),
    "a GPU": (Device("cuda", "a GPU", 80 * GIB, (9, 0)), CPU),
    "a GPU of which nothing is known": (Device("cuda"), CPU),
    "an old GPU": (Device("cuda", "an old GPU", 2 * GIB, (3, 5)), CPU),
    "two GPUs": (Device("cuda", "a GPU", 24 * GIB, (8, 6)), Device("cuda", "a GPU", 24 * GIB, (8, 6)), CPU),
    "an Apple GPU": (Device("mps"), CPU),
}
SECONDS, TIMED = 0.002, 500
"""What a verdict may take on average, and the number of those that are timed."""


@dataclass(frozen=True, eq=False)
class Everything(Mapping[str, str]):
    """Packages among which everything is installed, in one and the same version."""

    version: str

    def __getitem__(self, name: str) -> str:
        return self.version

    def __iter__(self) -> Iterator[str]:
        return iter(("torch", "transformers"))

    def __len__(self) -> int:
        return 2


PACKAGES: Mapping[str, Mapping[str, str]] = {
    "nothing installed": {},
    "what is installed here": InstalledPackages(),
    **{f"every package in version {v!r}": Everything(v) for v in ("", "abc", "0.0.0", "9999.0")},
}
WORLDS = {"one process": 1, "two processes": 2}
IMPORTED = {
    "a fresh process": frozenset[str](),
    "torch, unsloth and trl imported": frozenset({"torch", "unsloth", "trl"}),
}


@dataclass(frozen=True, eq=False)
class Asked:
    """One machine, in words too, and what was to be trained there."""

    words: str
    environment: Environment
    request: TrainRequest | None


def machines(system: str) -> Iterator[tuple[str, Environment]]:
    """Every combination of Python, devices, packages, processes and imports on one operating system."""
    pythons = [(3, minor) for minor in range(11, 15)]
    for python, devices, packages, world, imported in itertools.product(pythons, DEVICES, PACKAGES, WORLDS, IMPORTED):
        words = f"Python {python[0]}.{python[1]} on {system}, {devices}, {packages}, {world}, {imported}"
        environment = Environment(
            python=python,
            platform=system,
            devices=DEVICES[devices],
            packages=PACKAGES[packages],
            imported=IMPORTED[imported],
            world_size=WORLDS[world],
        )
        yield words, environment


def ask(backend: Backend, asked: Asked) -> object:
    """What the hook itself gives, or the exception that it raises: core's own door would turn that into a no."""
    try:
        return backend._hooks.call("is_available", environment=asked.environment, request=asked.request)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
        return error


@lru_cache(maxsize=1)
def _answers(backend: Backend, questions: tuple[Asked, ...]) -> tuple[tuple[Asked, object], ...]:
    return tuple((asked, ask(backend, asked)) for asked in questions)


@lru_cache(maxsize=1)
def _questions(system: str, cell: Cell | None, config: type[TrainingConfig] | None) -> tuple[Asked, ...]:
    found = [Asked(words, environment, None) for words, environment in machines(system)]
    if cell is not None and config is not None:
        settled = config(model_name="model", dataset_name="rows.jsonl").settled(quantised=False)
        what: dict[str, Any] = {"algorithm": cell.algorithm, "task": cell.task, "model_type": cell.model_type}
        for asked in list(found):
            request = TrainRequest(**what, config=settled, environment=asked.environment)
            found.append(Asked(f"{asked.words}, to train {cell}", asked.environment, request))
    return tuple(found)


def _flaw(text: object) -> str:
    """What is wrong with a reason or a remedy; empty where nothing is."""
    if not isinstance(text, str) or not text.strip():
        return "is empty"
    if not text.isprintable():
        return "is not one line of plain text"
    return f"has more than {LONGEST_REASON} characters" if len(text) > LONGEST_REASON else ""


class AvailabilityChecks(SuiteBase):
    """Some thousand machines, without a request and with one."""

    def asked(self, system: str) -> tuple[Asked, ...]:
        cell = next(iter(self.cells()), None)
        return _questions(system, cell, self.config_of(cell.algorithm) if cell else None)

    def answers(self, system: str) -> tuple[tuple[Asked, object], ...]:
        return _answers(self.found, self.asked(system))

    def test_every_machine_gets_a_verdict(self, system: str) -> None:
        answers = self.answers(system)
        raised = [f"{type(e).__name__}: {e} ({a.words})" for a, e in answers if isinstance(e, BaseException)]
        remedy = "judge by `environment` alone, and expect absent packages, odd versions and devices without details"
        check(not raised, f"is_available() raises on {len(raised)} of {len(answers)} machines:{listed(raised)}", remedy)
        other = [f"{type(v).__name__} ({a.words})" for a, v in answers if not isinstance(v, Availability)]
        check(not other, f"is_available() gives no Availability:{listed(other)}", "give an Availability on every path")

    def test_a_no_says_why_and_what_to_do(self, system: str) -> None:
        verdicts = [(a, v) for a, v in self.answers(system) if isinstance(v, Availability) and not v.ok]
        parts = [(a, what, getattr(v, what)) for a, v in verdicts for what in ("reason", "remedy")]
        flaws = [f"the {what} {flaw}: {text!r:.60} ({a.words})" for a, what, text in parts if (flaw := _flaw(text))]
        remedy = 'give Availability(False, "what is missing", "the command or the change that helps")'
        check(not flaws, f"a no of is_available() does not help its reader:{listed(flaws)}", remedy)

    def test_a_machine_gets_the_same_verdict_each_time(self, system: str) -> None:
        first = self.answers(system)
        again = [(asked, verdict, ask(self.found, asked)) for asked, verdict in reversed(first)]
        differing = [f"{a.words}: {v} → {w}" for a, v, w in again if isinstance(v, Availability) and v != w]
        remedy = "keep nothing from one call to the next, and judge by `environment` alone"
        check(not differing, f"is_available() changes its mind about a machine:{listed(differing)}", remedy)

    def test_a_verdict_is_quick(self) -> None:
        start = time.perf_counter()
        for asked in self.asked("linux")[:TIMED]:
            ask(self.found, asked)
        each = (time.perf_counter() - start) / TIMED
        remedy = "look at versions and devices only; it is asked in every command, several times"
        check(each <= SECONDS, f"is_available() takes {each * 1e3:.1f} ms on average", remedy)

    def test_it_can_run_here(self) -> None:
        verdict = self.verdict_here()
        remedy = f"{verdict.remedy}; or run the suite on another machine, and leave this check out here with the reason"
        check(verdict.ok, f"it cannot run on this machine, so nothing is trained: {verdict.reason}", remedy)
