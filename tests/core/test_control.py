"""Which plugins may load, decided before any is imported: the user's lists, names, owners, requirements."""

from __future__ import annotations

import logging

import pytest

from aligntune_core import BackendUnavailableError, PluginContractError
from aligntune_core.discovery import Entry
from aligntune_core.environment import Environment
from aligntune_core.installed import choose
from aligntune_core.testing import FakeBackend, FakeDistribution, fake_entry, make_registry

BOMB = SystemError("it was imported")


def ours() -> Entry:
    return fake_entry("trl", FakeBackend())


def test_an_impostor_never_gets_the_name_of_a_backend_of_ours() -> None:
    impostor = fake_entry("trl", BOMB, FakeDistribution("evil"))
    for entries in ([ours(), impostor], [impostor, ours()]):
        registry = make_registry(*entries)
        assert registry.backends["trl"].distribution == "aligntune-trl"
        assert "the name 'trl' belongs to aligntune-trl (evil 1.0)" in registry.failures["trl"].reason


def test_an_impostor_alone_is_refused_when_it_is_asked_for() -> None:
    registry = make_registry(fake_entry("trl", BOMB, FakeDistribution("evil")))
    with pytest.raises(PluginContractError, match="belongs to aligntune-trl"):
        choose(registry, Environment(), "sft", "trl")


@pytest.mark.parametrize("name", ["t_r_l", "trl_", "un_sloth"])
def test_a_name_that_means_the_same_as_one_of_ours_is_refused(name: str) -> None:
    registry = make_registry(ours(), fake_entry(name, BOMB))
    assert list(registry.backends) == ["trl"]
    assert "belongs to aligntune-" in registry.failures[name].reason


def test_two_names_that_mean_the_same_are_both_refused() -> None:
    registry = make_registry(fake_entry("my_one", BOMB), fake_entry("myone", BOMB), fake_entry("other", FakeBackend()))
    assert list(registry.backends) == ["other"]
    assert set(registry.failures) == {"my_one", "myone"}


def test_one_name_with_two_entry_points_in_a_distribution_is_refused() -> None:
    one, two = (fake_entry("x", BOMB, value=value) for value in ("a.plugin", "b.plugin"))
    assert "(a.plugin)" in make_registry(one, two).failures["x"].reason


@pytest.mark.parametrize("name", ["ɢood", "gооd", "ｇｏｏｄ", "a" * 65, "a\nb", "A"])
def test_a_name_that_only_looks_plain_is_refused(name: str) -> None:
    assert make_registry(fake_entry(name, BOMB)).failures[name].phase == "checked"


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"ALIGNTUNE_DISABLE_PLUGINS": "TRL"}, "it is switched off by ALIGNTUNE_DISABLE_PLUGINS"),
        ({"ALIGNTUNE_PLUGINS": "other"}, "ALIGNTUNE_PLUGINS is set and does not name it"),
    ],
)
def test_a_backend_that_is_switched_off_says_by_which_variable(environ: dict[str, str], reason: str) -> None:
    registry = make_registry(fake_entry("trl", BOMB), environ=environ)
    assert registry.disabled["trl"].reason == reason
    with pytest.raises(BackendUnavailableError, match=reason):
        choose(registry, Environment(), "sft", "trl")


def test_names_in_the_lists_may_be_spelt_in_any_case() -> None:
    assert "trl" in make_registry(ours(), environ={"ALIGNTUNE_PLUGINS": " TRL ,"})


def test_a_name_that_is_allowed_and_that_nobody_has_is_told(caplog: pytest.LogCaptureFixture) -> None:
    make_registry(ours(), environ={"ALIGNTUNE_PLUGINS": "trl,tlr"})
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == ["ALIGNTUNE_PLUGINS names 'tlr', and no installed plugin is called so"]


@pytest.mark.parametrize(
    "requires",
    ["aligntune>=99; extra == 'future'", "aligntune>=99; python_version < '3'", "aligntune (<1)", "Aligntune[data]<1"],
)
def test_a_requirement_that_does_not_apply_or_holds_is_no_obstacle(requires: str) -> None:
    assert "x" in make_registry(fake_entry("x", FakeBackend(), FakeDistribution(requires=(requires,))))


@pytest.mark.parametrize("requires", ["aligntune>=99; python_version >= '3'", "aligntune>=wrong", "ALIGNTUNE==99"])
def test_a_requirement_that_does_not_hold_or_cannot_be_read_is_refused_before_import(requires: str) -> None:
    registry = make_registry(fake_entry("x", BOMB, FakeDistribution(requires=(requires,))))
    assert registry.failures["x"].phase == "checked"


def test_a_registry_cannot_be_changed() -> None:
    registry = make_registry(ours())
    with pytest.raises(TypeError):
        registry.backends["mine"] = registry.backends["trl"]  # type: ignore[index]
    with pytest.raises(TypeError):
        registry.backends["trl"].algorithms["own"] = None  # type: ignore[index]
