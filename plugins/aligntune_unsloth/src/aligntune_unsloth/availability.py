"""Whether Unsloth can train here, judged from files and versions: importing it would change this process.

What only the driver knows is asked of a child process, and only for a run that Unsloth may train.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from importlib.util import find_spec

from packaging.requirements import InvalidRequirement, Requirement

from aligntune_core import Availability, Environment
from aligntune_unsloth.driver import driver

CPU = "ALIGNTUNE_UNSLOTH_CPU"
INSTALL = "pip install 'aligntune[unsloth]'"
USE_TRL = 'use backend="trl"'
OLDEST = (7, 0)
"""The compute capability from which Unsloth compiles its kernels."""
JUDGED = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes")
"""Packages whose versions decide whether training works."""
WITHOUT_CUDA = ("torch-without-cuda", "torch is not a CUDA build, and there is a GPU", "install a CUDA build of torch")


def wants_cpu() -> bool:
    """Whether the user asked for Unsloth's CPU backend."""
    return os.environ.get(CPU, "").strip() == "1"


def judge(environment: Environment, *, asked_for: bool = False) -> Availability:
    """The verdict on an environment; a reason begins with its code.

    Args:
        environment: as core found it.
        asked_for: a run is about to be trained; then the driver is asked too.
    """
    found = _installed(environment) or _one_process(environment) or _device(environment)
    return _driven() if asked_for and found.ok and not found.only_asked else found


def _no(code: str, what: str, remedy: str) -> Availability:
    return Availability(False, f"{code}: {what}", remedy)


def _installed(environment: Environment) -> Availability | None:
    """What is wrong with the installation; None where nothing is."""
    packages = environment.packages
    missing = [name for name in ("unsloth", "unsloth_zoo") if name not in packages]
    for name in missing:
        if find_spec(name) is not None:
            what = f"the module {name} belongs to no package of that name: another package brought a copy of it"
            return _no("foreign-copy", what, f"uninstall that package, then {INSTALL}")
    if missing:
        return _no("not-installed", f"{' and '.join(missing)} not installed", INSTALL)
    if "torch" not in packages:
        return _no("not-installed", "torch not installed", INSTALL)
    for requirement in _required(packages["unsloth"]):
        found = packages.get(requirement.name)
        if found is not None and not requirement.specifier.contains(found.split("+")[0], prereleases=True):
            what = f"{requirement.name} {found} does not fit: Unsloth {packages['unsloth']} wants {requirement}"
            return _no("version-conflict", what, f"pip install '{requirement}'")
    return None


@cache
def _required(version: str) -> tuple[Requirement, ...]:
    """What the installed Unsloth, of this version, requires of the packages that decide."""
    return tuple(r for name in ("unsloth", "unsloth_zoo") for r in _requirements(name))


def _requirements(distribution: str) -> Iterator[Requirement]:
    named = re.compile(rf"({'|'.join(JUDGED)})\b(?!-)", re.IGNORECASE)
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        if not named.match(line) or "extra ==" in line.replace("'", '"'):
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _one_process(environment: Environment) -> Availability | None:
    if environment.world_size > 1:
        what = f"Unsloth trains on one GPU, and there are {environment.world_size} processes"
        return _no("several-processes", what, USE_TRL)
    return None


def _device(environment: Environment) -> Availability:
    if wants_cpu():
        return Availability(True, f"cpu-only: Unsloth's CPU backend, as {CPU} asks", only_asked=True)
    gpus = [gpu for gpu in environment.gpus if gpu.kind == "cuda"]
    if not gpus:
        return _no("no-gpu", "Unsloth needs an NVIDIA GPU, and there is none here", USE_TRL)
    if "+cpu" in environment.packages["torch"]:
        return _no(*WITHOUT_CUDA)
    capability = gpus[0].capability
    if capability is not None and capability < OLDEST:
        found = ".".join(map(str, capability))
        what = f"the GPU has compute capability {found}, and Unsloth needs {'.'.join(map(str, OLDEST))}"
        return _no("gpu-too-old", what, USE_TRL)
    return Availability(True)


def _driven() -> Availability:
    found = driver()
    if found is None:
        return Availability(True)
    if found.cuda is None:
        return _no(*WITHOUT_CUDA)
    if found.problem:
        remedy = f"run nvidia-smi; update the driver or install the build of torch that fits it, or {USE_TRL}"
        return _no("gpu-unusable", f"torch cannot compute on the GPU: {found.problem}", remedy)
    return Availability(True)
