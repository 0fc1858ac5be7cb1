"""What this machine is, found without importing any training library."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

from aligntune_core.discovery import headers

AT_START: Mapping[str, str] = dict(os.environ)
"""The variables of this process before it imported any library through us: those change some."""


def _version(name: str) -> str | None:
    try:
        return headers(metadata.distribution(name)).get("version", [None])[0]
    except (metadata.PackageNotFoundError, ValueError):  # not installed, or no name at all
        return None


class InstalledPackages(Mapping[str, str]):
    """Distribution name → version, looked up when asked for: reading all of them would cost 100 ms and more."""

    def __init__(self) -> None:
        self._found: dict[str, str | None] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self._found:
            self._found[name] = _version(name)
        version = self._found[name]
        if version is None:
            raise KeyError(name)
        return version

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({d.metadata["Name"] for d in metadata.distributions()}))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator. `memory` in bytes and `capability` (major, minor) are None where not known."""

    kind: str
    name: str = ""
    memory: int | None = None
    capability: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A snapshot that backends judge. Every field can be given by hand, so each verdict can be tested."""

    python: tuple[int, int] = (3, 11)
    platform: str = "linux"
    devices: tuple[Device, ...] = ()
    packages: Mapping[str, str] = field(default_factory=dict)
    imported: frozenset[str] = frozenset()
    world_size: int = 1

    @property
    def gpus(self) -> tuple[Device, ...]:
        return tuple(d for d in self.devices if d.kind != "cpu")


def _visible(indices: list[int]) -> list[int]:
    """What CUDA_VISIBLE_DEVICES leaves; an entry that is no plain number keeps its place in the count."""
    raw = os.environ.get("CUDA_VISIBLE_DEVICES")
    if raw is None:
        return indices
    kept: list[int] = []
    for part in raw.split(","):
        if not part.strip() or part.strip() == "-1":
            break  # CUDA stops reading at the first invalid entry
        kept.append(int(part) if part.strip().isdigit() else len(kept))
    return [index for index in kept if index in indices]


@cache
def _query_nvidia() -> dict[int, tuple[str, int, tuple[int, int]]]:
    """Index → (name, memory, capability), from the driver's own tool; empty where it is not there."""
    import shutil
    import subprocess

    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    query = [tool, "--query-gpu=index,name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    found = {}
    for line in text.splitlines():
        index, name, memory, capability = (part.strip() for part in line.split(","))
        major, _, minor = capability.partition(".")
        found[int(index)] = (name, int(memory) * 2**20, (int(major), int(minor or 0)))
    return found


def _devices() -> tuple[Device, ...]:
    nodes = [int(p.name[6:]) for p in Path("/dev").glob("nvidia[0-9]*") if p.name[6:].isdigit()]
    visible = _visible(sorted(nodes)) if nodes else []
    details = _query_nvidia() if visible else {}
    devices = []
    for index in visible:
        name, memory, capability = details.get(index, ("", None, None))
        devices.append(Device("cuda", name, memory, capability))
    machine = os.uname().machine if hasattr(os, "uname") else ""
    if not devices and sys.platform == "darwin" and machine == "arm64":
        devices.append(Device("mps"))
    return (*devices, Device("cpu", machine))


def _world_size() -> int:
    raw = os.environ.get("WORLD_SIZE", "1")
    return int(raw) if raw.isdigit() else 1


def detect() -> Environment:
    """This process's environment now. Cheap: no training library is imported, no GPU context opened."""
    return Environment(
        python=sys.version_info[:2],
        platform=sys.platform,
        devices=_devices(),
        packages=InstalledPackages(),
        imported=frozenset(name for name in sys.modules if "." not in name and not name.startswith("_")),
        world_size=_world_size(),
    )


def rank() -> int:
    """This process's number under a launcher, else 0."""
    raw = os.environ.get("RANK", "0")
    return int(raw) if raw.isdigit() else 0
