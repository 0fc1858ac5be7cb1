"""`diagnose`: one report of this machine, to read or to paste into a bug report."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from aligntune_core.cli.output import json_option, print_json, print_table, strict_option
from aligntune_core.environment import Environment, detect
from aligntune_core.errors import told
from aligntune_core.installed import default_registry, get_backend_status
from aligntune_core.isolation.process import Worker
from aligntune_core.plan import versions_of
from aligntune_core.plugins import LoadFailure, load_extensions

LOW_DISK = 5 * 10**9
EXTRAS = {"datasets": "data", "matplotlib": "report", "jinja2": "report", "plotille": "report"}


def precision_here(environment: Environment) -> str:
    """What `precision: auto` will mean, as far as it can be told without a training library."""
    kinds = {device.kind for device in environment.gpus}
    if "cuda" in kinds:
        capability = min((d.capability for d in environment.gpus if d.capability), default=None)
        return "bf16 or fp16" if capability is None else ("bf16" if capability >= (8, 0) else "fp16")
    return "fp32"


def _broken() -> list[LoadFailure]:
    """What is wrong with plugins, but for that which a backend's own line tells."""
    registry = default_registry()
    intruders = [f for f in registry.failures.values() if f.name in registry]
    return [*intruders, *load_extensions().failures]


def _problems(environment: Environment, status: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    found = [
        {"what": f"backend {name}: {s['reason']}", "remedy": s["remedy"]}
        for name, s in status.items()
        if not s["available"] and s["version"] is not None
    ]
    found += [
        {"what": f"plugin {f.name} ({f.entry.origin}): {f.reason}", "remedy": "see 'aligntune plugins'"}
        for f in _broken()
    ]
    if not any(s["available"] for s in status.values()):
        found.append({"what": "no backend can train here", "remedy": "pip install 'aligntune[trl]'"})
    missing = sorted({extra for package, extra in EXTRAS.items() if package not in environment.packages})
    found += [{"what": f"the extra '{e}' is not installed", "remedy": f"pip install 'aligntune[{e}]'"} for e in missing]
    if environment.gpus and "+cpu" in environment.packages.get("torch", ""):
        found.append({"what": "torch is a CPU build, and there is a GPU", "remedy": "install a CUDA build of torch"})
    free = shutil.disk_usage(Path.cwd()).free
    if free < LOW_DISK:
        found.append({"what": f"only {free / 1e9:.1f} GB are free here", "remedy": "free space or change the folder"})
    return found


def proved(backend: str) -> dict[str, Any]:
    """What a fresh process says of a backend's libraries: whether they can really be imported, and in which time."""
    found = default_registry().backends[backend]
    with tempfile.TemporaryDirectory() as folder:
        isolation = found.isolation(Path(folder))
        if not isolation.proof:
            return {"ok": None, "seconds": None, "error": "the backend names nothing to import"}
        began = time.perf_counter()
        worker = Worker(backend, replace(isolation, preload=isolation.proof))
        try:
            worker.ask("loaded")
        except Exception as error:  # noqa: BLE001 - whatever a library raises at import
            return {"ok": False, "seconds": None, "error": told(error)}
        finally:
            worker.close()
    return {"ok": True, "seconds": round(time.perf_counter() - began, 1), "error": None}


def report(*, deep: bool = False) -> dict[str, Any]:
    """The whole report; `deep`: with what each usable backend's libraries do in a fresh process."""
    environment, registry, status = detect(), default_registry(), get_backend_status()
    packages: dict[str, str] = {}
    for backend in registry:
        packages |= versions_of(backend.distribution)
    packages = packages or versions_of("aligntune")
    packages.pop("python", None)
    asked = [name for name in registry.backends if status[name]["available"]] if deep else []
    imports = {name: proved(name) for name in sorted(asked)}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items())),
        "devices": [
            {"kind": d.kind, "name": d.name, "memory": d.memory, "capability": d.capability}
            for d in environment.devices
        ],
        "precision": precision_here(environment),
        "backends": status,
        "problems": _problems(environment, status) + _unimportable(imports),
    } | ({"imports": imports} if deep else {})


def _unimportable(imports: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {"what": f"backend {name}: its libraries cannot be imported: {found['error']}", "remedy": "install them again"}
        for name, found in imports.items()
        if found["ok"] is False
    ]


@click.command()
@json_option
@strict_option
@click.option("--deep", is_flag=True, help="Import each usable backend's libraries too, in a process of its own.")
def diagnose(as_json: bool, strict: bool, deep: bool) -> None:
    """Versions, devices, precision, each backend's verdict, and what to mend."""
    found = report(deep=deep)
    if as_json:
        print_json(found)
    else:
        _print(found)
    sys.exit(3 if strict and found["problems"] else 0)


def _print(found: dict[str, Any]) -> None:
    click.echo(f"Python {found['python']} on {found['platform']}")
    devices = [f"{d['kind']} {d['name']}".strip() + _memory(d["memory"]) for d in found["devices"]]
    click.echo(f"devices: {', '.join(devices)}; precision auto means {found['precision']}")
    print_table("", ["package", "version"], [[n, v] for n, v in found["packages"].items()])
    rows = [[n, "yes" if s["available"] else "no", s["reason"]] for n, s in found["backends"].items()]
    print_table("", ["backend", "available", "reason"], rows)
    for name, told_of in found.get("imports", {}).items():
        if told_of["ok"]:
            click.echo(f"{name}: its libraries were imported in {told_of['seconds']} s, in a process of their own")
    if not found["problems"]:
        click.secho("nothing to mend", fg="green")
    for problem in found["problems"]:
        click.secho("problem: ", fg="yellow", bold=True, nl=False)
        click.echo(f"{problem['what']}; {problem['remedy']}")


def _memory(size: int | None) -> str:
    return f" ({size / 2**30:.0f} GiB)" if size else ""
