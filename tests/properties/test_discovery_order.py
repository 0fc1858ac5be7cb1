"""The order in which plugins are found on the path is an accident: the registry is equal for each of 1,000 orders."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from aligntune_core import Environment, hookimpl
from aligntune_core.discovery import Entry
from aligntune_core.installed import build_matrix
from aligntune_core.plugins import BackendRegistry, load_registry
from aligntune_core.testing import FakeBackend, FakeDistribution, fake_entry

ORDERS, SHARES = 1000, 4


class Garbage(FakeBackend):
    @hookimpl
    def provides_algorithms(self) -> Any:
        return [7]


ENTRIES = [
    fake_entry("a", FakeBackend(preference=1), value="a.plugin"),
    fake_entry("b", FakeBackend(["dpo", "sft"]), FakeDistribution("dist-b", "2.1"), value="b.plugin"),
    fake_entry("c_d", FakeBackend(["grpo"]), value="c.plugin:thing"),
    fake_entry("twice", FakeBackend(), FakeDistribution("dist-one")),
    fake_entry("twice", FakeBackend(), FakeDistribution("dist-two")),
    fake_entry("tw_ice", FakeBackend(), FakeDistribution("dist-three")),
    fake_entry("same", FakeBackend(), FakeDistribution("dist-same")),
    fake_entry("same", FakeBackend(), FakeDistribution("dist-same")),
    fake_entry("trl", FakeBackend(preference=10), FakeDistribution("aligntune_trl", "0.1")),
    fake_entry("trl", FakeBackend(), FakeDistribution("an-impostor")),
    fake_entry("tr_l", FakeBackend(), FakeDistribution("another-impostor")),
    fake_entry("unsloth", FakeBackend(), FakeDistribution("an-impostor")),
    fake_entry("off", SystemError("it was imported")),
    fake_entry("fails", ImportError("no torch")),
    fake_entry("garbage", Garbage()),
    fake_entry("number", 7),
    fake_entry("later", SystemError("it was imported"), FakeDistribution(requires=("aligntune>=99",))),
    fake_entry("Upper", SystemError("it was imported")),
]
BROKEN = {"dist-bad": ValueError("a line without ="), "dist-worse": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")}
ENVIRON = {"ALIGNTUNE_DISABLE_PLUGINS": "off"}


def load(entries: list[Entry], broken: list[tuple[str, Exception]]) -> tuple[BackendRegistry, list[str]]:
    """The registry, and the names of the plugins in the order in which they were imported."""
    imported: list[str] = []

    def noted(entry: Entry) -> Entry:
        def imports() -> Any:
            imported.append(entry.name)
            return entry.load()

        return replace(entry, load=imports)

    return load_registry(lambda: ([noted(entry) for entry in entries], dict(broken)), ENVIRON), imported


def picture(registry: BackendRegistry, imported: list[str]) -> dict[str, Any]:
    """All that a registry says, in its own order."""
    return {
        "imported": imported,
        "backends": [(b.name, b.distribution, b.version, b.entry.value, b.hooks, list(b.algorithms)) for b in registry],
        "failures": [(n, f.entry.distribution, f.phase, f.reason) for n, f in registry.failures.items()],
        "disabled": [(n, d.entry.distribution, d.reason) for n, d in registry.disabled.items()],
        "known": registry.known,
        "algorithms": registry.extra_algorithms,
        "cells": build_matrix(registry, Environment()).cells,
        "snapshot": registry.snapshot(),
    }


def test_each_plugin_is_what_it_should_be() -> None:
    found = picture(*load(ENTRIES, list(BROKEN.items())))
    assert [(b[0], b[1]) for b in found["backends"]] == [
        ("a", "aligntune-a"), ("b", "dist-b"), ("c_d", "aligntune-c_d"), ("same", "dist-same"),
        ("trl", "aligntune_trl"),
    ]  # fmt: skip
    assert {n: phase for n, _, phase, _ in found["failures"]} == {
        "Upper": "checked", "dist-bad": "found", "dist-worse": "found", "fails": "imported", "garbage": "described",
        "later": "checked", "number": "registered", "tr_l": "found", "trl": "found", "tw_ice": "found",
        "twice": "found", "unsloth": "found",
    }  # fmt: skip
    assert [name for name, _, _ in found["disabled"]] == ["off"]


@pytest.mark.parametrize("share", range(SHARES))
def test_every_order_gives_an_equal_registry(share: int) -> None:
    shuffle = random.Random(share).shuffle  # noqa: S311 - no secret
    expected = picture(*load(ENTRIES, list(BROKEN.items())))
    entries, broken = list(ENTRIES), list(BROKEN.items())
    for _ in range(ORDERS // SHARES):
        shuffle(entries)
        shuffle(broken)
        assert picture(*load(entries, broken)) == expected
