"""Every hostile plugin against every command, as real processes; run by `nox -s hostile`, not by the default suite.

pytest -n 2 tests/hostile/check_hostile.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Done, Hostile, Place

CTRL_C = 130


def named(plugin: Hostile, text: str) -> bool:
    return f"'{plugin.name}'" in text or "aligntune-odd" in text


def check_survived(plugin: Hostile, done: Done) -> None:
    """The command did its work; if the plugin cannot be interrupted, the process ended in its name and in time."""
    done.check_text(plugin)
    if plugin.ends_process:
        assert done.code == 3
        assert named(plugin, done.errors[-1])
    elif plugin.interrupts:
        assert done.code == CTRL_C
        assert named(plugin, done.err)
    else:
        assert done.code == 0, done.err[-2000:]
        assert plugin.prints or "Traceback" not in done.err
        assert "this is a bug of AlignTune" not in done.err


def check_told(plugin: Hostile, status: dict[str, Any], err: str) -> None:
    """The report of the backends says of the plugin what is the matter, and of the good one that nothing is."""
    assert status["good"]["available"] is not bool(plugin.takes_good)
    mine = [s for name, s in status.items() if name != "good" and plugin.is_called(name, s["distribution"])]
    told = plugin.broken[2] if plugin.broken else plugin.refused
    if plugin.stands:
        assert status[plugin.name]["distribution"] == f"aligntune-{plugin.name}"
    elif plugin.unknown:
        assert mine == []
    elif not plugin.takes_good:
        assert [s["available"] for s in mine] == [told is None]
        assert (told or "") in mine[0]["reason"]
    if plugin.broken:
        assert any(named(plugin, line) for line in err.split("\n"))
    if plugin.warns:
        assert any(plugin.warns in line and named(plugin, line) for line in err.split("\n"))


@pytest.mark.tried("help")
def test_help_does_not_know_of_it(plugin: Hostile, place: Place) -> None:
    done = place.run("--help")
    done.check_text(plugin)
    assert done.code == 0
    assert done.err == ""
    assert "good" in done.out


@pytest.mark.tried("list")
def test_the_list_of_backends_says_what_it_is(plugin: Hostile, place: Place) -> None:
    done = place.run("list-backends", "--json")
    check_survived(plugin, done)
    if done.code == 0 and plugin.is_backend:
        check_told(plugin, done.json["backends"], done.err)


@pytest.mark.tried("diagnose")
def test_the_diagnosis_says_what_it_is(plugin: Hostile, place: Place) -> None:
    done = place.run("diagnose", "--json")
    check_survived(plugin, done)
    if done.code == 0 and plugin.is_backend:
        check_told(plugin, done.json["backends"], done.err)


@pytest.mark.tried("plugins")
def test_the_report_of_plugins_gives_phase_and_cause(plugin: Hostile, place: Place) -> None:
    done = place.run("plugins", "--json")
    done.check_text(plugin)
    assert done.code == 0, done.err
    assert plugin.prints or "Traceback" not in done.err
    found = [p for p in done.json["plugins"] if plugin.is_called(p["name"], p["distribution"])]
    if plugin.unknown:
        assert found == []
    elif plugin.broken:
        phase, kind, message = plugin.broken
        assert any(
            p["status"] == "broken"
            and phase in p["error"]["phase"]
            and kind in p["error"]["type"]
            and message in p["error"]["message"]
            for p in found
        ), found
    elif not plugin.interrupts:
        assert [p["status"] for p in found] == ["ok"]
        assert found[0]["error"] is None
    else:
        assert [p["status"] for p in found] == ["broken"]
    good = [p["status"] for p in done.json["plugins"] if p["distribution"] == "aligntune-good"]
    assert good == (["broken"] if plugin.takes_good else ["ok"])


@pytest.mark.tried("good")
def test_the_good_one_trains_as_if_it_were_alone(plugin: Hostile, place: Place, undisturbed: dict[str, Any]) -> None:
    done = place.train_good()
    if plugin.takes_good:
        assert done.code == 3
        assert any("two plugins claim one name" in line for line in done.errors)
        return
    check_survived(plugin, done)
    if done.code == 0:
        assert place.results == undisturbed


@pytest.mark.tried("itself")
def test_who_asks_for_it_gets_it_or_one_line_of_error(
    plugin: Hostile, place: Place, undisturbed: dict[str, Any]
) -> None:
    done = place.ask()
    done.check_text(plugin)
    code, part = plugin.end
    assert done.code == code, done.err[-2000:]
    if code == 0:
        assert part in done.out
        assert plugin.calls or place.results["run"]["status"] == "finished"
    elif code == CTRL_C or plugin.script:
        assert part in done.err.strip().split("\n")[-1]
    elif part or not plugin.quiet:
        told = [line for line in done.errors if part in line]
        assert plugin.quiet or any(named(plugin, line) for line in told), done.err[-2000:]
        assert told
    assert "this is a bug of AlignTune" not in done.err
    assert not (plugin.broken or plugin.refused) or plugin.prints or "Traceback" not in done.err
    if plugin.fails:
        assert place.results["rows"] == undisturbed["rows"]
        assert place.results["model"] == undisturbed["model"]
        log = (place.home / "out" / "log.txt").read_text("utf-8")
        assert log.count(f"the tracker 'odd' (aligntune-odd 1.0) failed in {plugin.fails}()") == 1
