"""Whether Unsloth can train here, told from files and versions: with real metadata, and without importing it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aligntune_unsloth import availability, plugin
from aligntune_unsloth.driver import Driver, driver

from aligntune_core import Availability, Device, Environment, TrainRequest
from aligntune_core.config import SftConfig

VERSIONS = {
    "unsloth": "2026.10.9", "unsloth_zoo": "2026.10.9", "torch": "2.13.0", "trl": "1.14.2", "transformers": "5.17.0",
    "peft": "0.21.2", "datasets": "4.8.5",
}  # fmt: skip
H100 = Device("cuda", "H100", 80 * 2**30, (9, 0))
Judge = Callable[..., Availability]


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """The verdict on a machine with a fit GPU and fit versions, but for what is given."""
    monkeypatch.delenv(availability.CPU, raising=False)
    info = tmp_path / "unsloth-2026.10.9.dist-info"
    info.mkdir()
    lines = [
        "Metadata-Version: 2.1", "Name: unsloth", "Version: 2026.10.9", "Requires-Dist: trl<=1.15.0,>=0.18.2",
        "Requires-Dist: transformers!=5.0.1,<=5.17.0,>=4.51.3", "Requires-Dist: torch<2.15,>=2.4",
        "Requires-Dist: trl>=9; extra == 'studio'", "Requires-Dist: certifi>=2030",
    ]  # fmt: skip
    (info / "METADATA").write_text("\n".join(lines) + "\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    availability._required.cache_clear()

    def verdict(
        devices: tuple[Device, ...] = (H100,), world_size: int = 1, request: Any = None, **versions: str | None
    ) -> Availability:
        packages = {name: version for name, version in {**VERSIONS, **versions}.items() if version is not None}
        environment = Environment(devices=devices, packages=packages, world_size=world_size)
        before = set(sys.modules)
        found: Any = plugin.is_available(environment=environment, request=request)
        assert not {"unsloth", "unsloth_zoo", "torch", "trl"} & (set(sys.modules) - before)
        return found  # type: ignore[no-any-return]

    return verdict


def test_a_fit_gpu_and_fit_versions_are_enough(judge: Judge) -> None:
    assert judge() == Availability(True)


@pytest.mark.parametrize(
    ("given", "code", "remedy"),
    [
        ({"unsloth": None}, "not-installed", "pip install 'aligntune[unsloth]'"),
        ({"unsloth_zoo": None}, "not-installed", "pip install 'aligntune[unsloth]'"),
        ({"torch": None}, "not-installed", "pip install 'aligntune[unsloth]'"),
        ({"trl": "1.16.0"}, "version-conflict", "pip install 'trl<=1.15.0,>=0.18.2'"),
        ({"transformers": "5.18.0"}, "version-conflict", "pip install 'transformers!=5.0.1,<=5.17.0,>=4.51.3'"),
        ({"devices": (Device("cpu"),)}, "no-gpu", 'use backend="trl"'),
        ({"devices": (Device("mps"),)}, "no-gpu", 'use backend="trl"'),
        ({"devices": (Device("cuda", "P100", 2**34, (6, 0)),)}, "gpu-too-old", 'use backend="trl"'),
        ({"torch": "2.13.0+cpu"}, "torch-without-cuda", "install a CUDA build of torch"),
        ({"world_size": 2}, "several-processes", 'use backend="trl"'),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_whatever_is_missing_has_a_code_and_a_remedy(judge: Judge, given: Any, code: str, remedy: str) -> None:
    found = judge(**given)
    assert not found.ok
    assert found.reason.startswith(f"{code}: ")
    assert remedy in found.remedy


def test_a_copy_that_another_package_brought_is_not_used(judge: Judge, tmp_path: Path) -> None:
    (tmp_path / "unsloth").mkdir()
    (tmp_path / "unsloth" / "__init__.py").write_text("raise SystemExit", "utf-8")
    importlib.invalidate_caches()
    found = judge(unsloth=None)
    assert found.reason.startswith("foreign-copy: the module unsloth belongs to no package of that name")


def test_a_gpu_whose_capability_nobody_knows_is_tried(judge: Judge) -> None:
    assert judge(devices=(Device("cuda"),)).ok


def test_its_cpu_backend_serves_those_who_ask_for_it_and_auto_never(judge: Judge, monkeypatch: Any) -> None:
    monkeypatch.setenv(availability.CPU, "1")
    found = judge(devices=(Device("cpu"),))
    assert (found.ok, found.only_asked) == (True, True)
    assert found.reason.startswith("cpu-only: ")


# what only the driver knows

RUN = TrainRequest(algorithm="sft", task="", model_type="causal_lm", config=SftConfig(), environment=Environment())


def test_for_a_run_torch_itself_is_asked_in_another_process(judge: Judge) -> None:
    found = driver()
    assert found is not None
    assert found is driver()
    asked = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.version.cuda)"], capture_output=True, text=True, check=True
    )
    assert str(found.cuda) == asked.stdout.strip()
    assert judge().ok
    assert judge(request=RUN).ok == (not found.problem)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (Driver(None, "torch sees none"), "torch-without-cuda: "),
        (
            Driver("13.0", "the driver is too old"),
            "gpu-unusable: torch cannot compute on the GPU: the driver is too old",
        ),
        (Driver("13.0", ""), ""),
        (None, ""),
    ],
    ids=["no CUDA", "old driver", "fit", "no answer"],
)
def test_what_torch_says_decides(judge: Judge, monkeypatch: Any, told: Driver | None, reason: str) -> None:
    monkeypatch.setattr(availability, "driver", lambda: told)
    found = judge(request=RUN)
    assert found.ok is not bool(reason)
    assert found.reason.startswith(reason)
    assert bool(found.remedy) is bool(reason)


def test_nothing_is_asked_of_the_driver_where_the_answer_is_no_already(judge: Judge, monkeypatch: Any) -> None:
    monkeypatch.setattr(availability, "driver", lambda: pytest.fail("asked"))
    assert not judge(devices=(Device("cpu"),), request=RUN).ok
    monkeypatch.setenv(availability.CPU, "1")
    assert judge(devices=(Device("cpu"),), request=RUN).ok
