"""The same run on several backends, one after the other, each in a process of its own: what it takes and comes to."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from aligntune_core.checks import checked_config, selector_of
from aligntune_core.config import Layer, file_layer
from aligntune_core.config.aliases import BY_ALIAS
from aligntune_core.environment import detect
from aligntune_core.errors import AlignTuneError, told
from aligntune_core.factory import get_trainer
from aligntune_core.installed import default_registry
from aligntune_core.runs.charts import Series, chart, number
from aligntune_core.runs.folder import METRICS, read_run
from aligntune_core.runs.metrics import read
from aligntune_core.runs.pages import render
from aligntune_core.runs.storage import write_json, write_text, writing
from aligntune_core.values import Callback

TONES = ("train", "eval", "good", "bad", "muted")
"""The page's colours, in the order of the backends."""
PAGE, NUMBERS = "compare.html", "compare.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A run on one backend.

    Attributes:
        backend: its name.
        losses: step → loss.
        seconds: step → seconds it took, from the second on.
        first_step: seconds from the start, with the library's imports and the model, to the end of the first step.
        step: the median of `seconds`.
        tokens_per_second: the median over the steps, without padding.
        memory: most bytes of its process, and of the GPU.
        config: every setting of the run.
        given: those that the file or the comparison gave.
        parameters: of the model, all and those that are trained.
        versions: of what trained.
        error: what ended it, or empty.
        exit_code: of that.
    """

    backend: str
    losses: Mapping[int, float] = field(default_factory=dict)
    seconds: Mapping[int, float] = field(default_factory=dict)
    first_step: float | None = None
    step: float | None = None
    tokens_per_second: float | None = None
    memory: Mapping[str, int | None] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, int | None] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    exit_code: int = 0


class _Clock(Callback):
    """When each step ended."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.ends: dict[int, float] = {}

    def step(self, step: int) -> None:
        self.ends[step] = time.perf_counter()


OURS = frozenset(
    {
        *("max_steps", "num_epochs", "logging_steps", "save_steps", "output_dir", "resume", "overwrite", "isolation"),
        "backend",
    }
)
"""What the comparison decides itself, whatever the file says."""


def _settings(config: Path) -> Layer:
    """The file's settings but for those."""
    layer = file_layer(config)
    kept = {name: value for name, value in layer.settings.items() if BY_ALIAS.get(name, name) not in OURS}
    return replace(layer, settings=kept)


def check(config: Path, backends: Sequence[str]) -> None:
    """Refuse what one of the backends would refuse, before the first of them trains.

    Raises:
        AlignTuneError: as `get_trainer`.
    """
    registry, environment, layers = default_registry(), detect(), [_settings(config)]
    algorithm = selector_of(layers, "algorithm", None, "sft")
    for backend in backends:
        checked_config(algorithm, backend, layers, registry=registry, environment=environment)


def measure(config: Path, backend: str, steps: int, folder: Path) -> Measured:
    """Train so many steps on a backend; what ends it is told in the result."""
    clock, layer = _Clock(), _settings(config)
    algorithm: Any = selector_of([layer], "algorithm", None, "sft")
    try:
        with get_trainer(
            algorithm, backend, config=layer.settings, max_steps=steps, logging_steps=1, save_steps=steps,
            output_dir=str(folder), isolation="process",
        ) as run:  # fmt: skip
            run.listen(clock)
            run.train()
    except AlignTuneError as error:
        return Measured(backend=backend, error=str(error), exit_code=error.exit_code)
    except Exception as error:  # noqa: BLE001 - the other backends are still to be measured
        return Measured(backend=backend, error=told(error), exit_code=3)
    return _measured(backend, clock, folder)


def _measured(backend: str, clock: _Clock, folder: Path) -> Measured:
    rows = [row for row in read(folder / METRICS) if row["split"] == "train"]
    ends = sorted(clock.ends.items())
    seconds = {step: end - before for (_, before), (step, end) in itertools.pairwise(ends)}
    speeds = [row["tokens_per_second"] for row in rows if row.get("tokens_per_second")]
    run = read_run(folder) or {}
    resolved = run.get("resolved") or {}
    return Measured(
        backend=backend,
        losses={row["step"]: row["loss"] for row in rows if row.get("loss") is not None},
        seconds=seconds,
        first_step=ends[0][1] - clock.began if ends else None,
        step=statistics.median(seconds.values()) if seconds else None,
        tokens_per_second=statistics.median(speeds) if speeds else None,
        memory=run.get("peak_memory") or {},
        config=run.get("config") or {},
        given=run.get("given") or {},
        parameters={"all": resolved.get("parameters"), "trained": resolved.get("trained_parameters")},
        versions=run.get("versions") or {},
    )


COLUMNS = ("first loss", "last loss", "a step, s", "tokens a second", "to the first step, s", "host, GiB", "GPU, GiB")


def _text(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else number(value, digits)


def _gib(size: int | None) -> str:
    return _text(None if size is None else size / 2**30, 3)


def cells(found: Measured) -> list[str]:
    """A backend's numbers, in the order of `COLUMNS`; a dash for what nobody measured."""
    losses = list(found.losses.values())
    return [
        _text(losses[0] if losses else None),
        _text(losses[-1] if losses else None),
        _text(found.step, 3),
        _text(found.tokens_per_second, 3),
        _text(found.first_step, 3),
        _gib(found.memory.get("host")),
        _gib(found.memory.get("gpu")),
    ]


def summary(config: Path, steps: int, found: Sequence[Measured]) -> dict[str, Any]:
    """All that was measured, as JSON holds it."""
    devices = [asdict(device) for device in detect().devices]
    return {"config": str(config), "steps": steps, "devices": devices, "backends": [asdict(one) for one in found]}


def devices_of(told: Mapping[str, Any]) -> str:
    """The machine's devices in a `summary`, in words."""
    return ", ".join(f"{device['kind']} {device['name']}".strip() for device in told["devices"])


def write(folder: Path, told: Mapping[str, Any], found: Sequence[Measured]) -> None:
    """Write `compare.json` and, where the extra `aligntune[report]` is installed, `compare.html`.

    Args:
        folder: that of the runs.
        told: the `summary`.
        found: what it is of.

    Raises:
        ImportError: that extra is missing; the numbers are written.
        StorageError: the disk is full.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)  # where no backend came so far
    write_json(folder / NUMBERS, told)
    write_text(folder / PAGE, render("compare.html.j2", _context(told, found)))


def _context(told: Mapping[str, Any], found: Sequence[Measured]) -> dict[str, Any]:
    tones = {one.backend: TONES[min(place, len(TONES) - 1)] for place, one in enumerate(found)}
    lines: dict[str, tuple[str, Series]] = {
        "loss": ("Loss", {one.backend: _floats(one.losses) for one in found if one.losses}),
        "seconds": ("Seconds a step", {one.backend: _floats(one.seconds) for one in found if one.seconds}),
    }
    given: Mapping[str, Any] = next((one.given for one in found if one.given), {})
    return {
        "name": Path(told["config"]).name,
        "steps": told["steps"],
        "columns": COLUMNS,
        "rows": [(one.backend, tones[one.backend], cells(one), one.error) for one in found],
        "charts": [chart(name, title, series, tones) for name, (title, series) in lines.items() if series],
        "tones": tones,
        "devices": devices_of(told),
        "versions": {one.backend: dict(one.versions) for one in found if one.versions},
        "config": {name: value for name, value in given.items() if name not in OURS},
    }


def _floats(points: Mapping[int, float]) -> dict[float, float]:
    return {float(step): value for step, value in points.items()}
