"""A few hostile plugins in the fast suite; `check_hostile.py` tries all of them with every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Hostile, Place

KINDS = [
    "it ends the process with 0",
    "it raises an error with escape sequences and lines",
    "it prints 1 MB",
    "it changes the working directory",
    "it never says whether it can run",
    "it claims an algorithm of ours in another spelling",
    "it takes the name of a backend of ours that is not there",
    "it was made for a newer AlignTune",
    "a setting of its own is called as another name of one of ours",
    "its own settings raise when they are checked",
]
"""Two that fail, one that is loud, one that leaves traces, one that hangs, two that lie, one that is too new, and two
with settings of their own."""


def test_the_list_of_backends_is_whole_beside_it(plugin: Hostile, place: Place) -> None:
    done = place.run("list-backends", "--json")
    done.check_text(plugin)
    assert done.code == 0, done.err
    backends = done.json["backends"]
    told = plugin.broken[2] if plugin.broken else plugin.refused
    assert backends["good"]["available"]
    assert backends[plugin.name]["available"] is (told is None)
    assert (told or "") in backends[plugin.name]["reason"]
    assert plugin.prints or "Traceback" not in done.err
    assert (plugin.warns or "") in done.err


def test_who_asks_for_it_gets_one_line_that_names_it_or_a_run(plugin: Hostile, place: Place) -> None:
    done = place.run(*plugin.command, "--dry-run")
    done.check_text(plugin)
    code, told = plugin.end
    assert done.code == code, done.err
    assert len(done.errors) == bool(code)
    assert all(f"'{plugin.name}'" in line and told in line for line in done.errors)
