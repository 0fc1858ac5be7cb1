"""The checks beside the fast suite; `nox -l` lists them. One that lacks its means fails and says what to install."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests", "lint", "types", "docs"]
nox.options.reuse_existing_virtualenvs = True

TRL = {"1.14": "constraints/trl-1.14.txt", "1.16": "constraints/trl-1.16.txt"}
NEWEST = TRL["1.16"]
PLUGIN = "plugins/aligntune_trl"
EXAMPLE = "examples/aligntune_torch"
UNSLOTH = "plugins/aligntune_unsloth"
CONFORMANCE = ("tests/conformance", "tests/scaffold", f"{EXAMPLE}/tests", f"{PLUGIN}/tests/test_conformance.py")
"""The conformance suite: on a fake, on a fresh scaffold, on the example and on the TRL backend."""


def install(session: nox.Session, constraints: str, extras: str = "report,test") -> None:
    """The project, its plugin and the example from this checkout, as the README installs them."""
    session.install("-c", constraints, "-e", f".[{extras}]", "-e", PLUGIN, "-e", EXAMPLE)


@nox.session
@nox.parametrize("trl", list(TRL), ids=list(TRL))
def tests(session: nox.Session, trl: str) -> None:
    """The fast suite, beside both versions of TRL that are supported."""
    install(session, TRL[trl])
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session
def unsloth(session: nox.Session) -> None:
    """The Unsloth backend with the real Unsloth on its CPU backend, and that TRL trains the same bits beside it."""
    install(session, TRL["1.14"])
    work = Path(session.create_tmp())
    shutil.rmtree(work / "runs", ignore_errors=True)  # those of the last time
    absent = work / "absent.json"
    script = f"{UNSLOTH}/tests/real/weights.py"
    session.run("pip", "uninstall", "-y", "-q", "unsloth", "unsloth_zoo", "aligntune-unsloth")
    model = "from pathlib import Path; from aligntune_trl.tiny import write_tiny_model as w; w('causal_lm', Path('{}'))"
    session.run("python", "-c", model.format(work / "model"))
    with absent.open("w") as file:
        session.run("python", script, str(work / "model"), str(work / "runs"), stdout=file)
    session.install("-c", "constraints/unsloth.txt", "--no-deps", "unsloth", "unsloth_zoo", "-e", UNSLOTH)
    told = {"ALIGNTUNE_TEST_ABSENT": str(absent.absolute()), "ALIGNTUNE_UNSLOTH_CPU": "1"}
    for check in ("training", "interference", "conformance", "limited"):  # one of them in a process that is Unsloth's
        session.run("pytest", "-n", "2", f"{UNSLOTH}/tests/real/check_{check}.py", *session.posargs, env=told)


@nox.session
@nox.parametrize("pluggy", ["1.6.0", "1.7.0"])
def pluggy(session: nox.Session, pluggy: str) -> None:
    """The core's tests and every run of the conformance suite, at both ends of the supported pluggy."""
    install(session, NEWEST)
    session.install(f"pluggy=={pluggy}")
    core = ("tests/core", "tests/runs", "tests/cli", "tests/compatibility", "tests/hostile", "tests/properties")
    session.run("pytest", "-n", "2", *core, *CONFORMANCE)


@nox.session
@nox.parametrize("trl", list(TRL), ids=list(TRL))
def conformance(session: nox.Session, trl: str) -> None:
    """The conformance suite on every cell that the TRL backend claims, beside both versions of TRL."""
    install(session, TRL[trl])
    session.run("pytest", "-n", "2", f"{PLUGIN}/tests/check_conformance.py", *session.posargs)


@nox.session
@nox.parametrize("trl", list(TRL), ids=list(TRL))
def heavy(session: nox.Session, trl: str) -> None:
    """What the fast suite leaves out: several processes, and promises repeated on further algorithms."""
    install(session, TRL[trl])
    session.run("pytest", "-n", "2", "-m", "heavy", *session.posargs)


@nox.session
def hostile(session: nox.Session) -> None:
    """Hostile plugins, each installed for real, against every command that meets plugins."""
    install(session, NEWEST)
    session.run("pytest", "-n", "2", "tests/hostile/check_hostile.py", *session.posargs)


@nox.session
def tutorial(session: nox.Session) -> None:
    """The authors' tutorial as written, from an empty folder to a published backend. Takes about ten minutes."""
    install(session, NEWEST)
    session.install("markdown-it-py", "pypiserver>=2.4")
    session.run("pytest", "tests/tutorial/check_tutorial.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and the import contracts."""
    install(session, NEWEST)
    session.install("ruff>=0.14,<1")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", env={"PYTHONPATH": f"{UNSLOTH}/src"})  # it is not installed without Unsloth


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict over core, facade, plugin and example."""
    install(session, NEWEST)
    session.install("mypy>=2,<3", "types-PyYAML")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Generated pages are current; the site builds without a warning; every link inside it leads somewhere."""
    install(session, NEWEST, "report,test,docs")
    session.run("python", "docs/generate.py", "--check")
    session.run("sphinx-build", "-W", "-n", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session
def browser(session: nox.Session) -> None:
    """The report in a real headless Chromium."""
    if shutil.which("chromium") is None:
        session.error("no Chromium; install it, such as with: apt-get install chromium")
    install(session, NEWEST)
    session.install("playwright>=1.50")
    session.run("pytest", "tests/browser/check_report.py", *session.posargs)


def build_wheels(session: nox.Session, *projects: str) -> Path:
    """The wheels of these projects, in a folder."""
    session.install("build")
    folder = Path(session.create_tmp()).absolute() / "wheels"
    for project in projects:
        session.run("python", "-m", "build", "--wheel", "--outdir", str(folder), project)
    return folder


def fresh(session: nox.Session) -> tuple[str, Path]:
    """The Python of an empty environment, and an empty home."""
    folder = Path(session.create_tmp()).absolute()
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    session.run("python", "-m", "venv", "--clear", str(folder / "fresh"))
    return str(folder / "fresh" / "bin" / "python"), home


@nox.session
def packaging(session: nox.Session) -> None:
    """Wheels, built and installed into an empty environment; the demo runs from them."""
    wheels = sorted(map(str, build_wheels(session, ".", PLUGIN).glob("*.whl")))
    python, home = fresh(session)
    session.run(
        python, "-m", "pip", "install", "-q", "-c", NEWEST, *wheels, "jinja2", "matplotlib", "plotille", external=True
    )
    session.run(python, "-m", "pip", "check", external=True)
    demo = home / "demo"
    session.run(python, "-m", "aligntune", "demo", "--output-dir", str(demo), external=True, env={"HOME": str(home)})
    if not (demo / "report.html").exists():
        session.error("the demo wrote no report.html")


@nox.session
def extra(session: nox.Session) -> None:
    """`aligntune[unsloth]` from wheels in an empty environment: the resolver finds all of it, and it trains."""
    wheels = build_wheels(session, ".", PLUGIN, UNSLOTH)
    python, home = fresh(session)
    session.install("uv>=0.8")
    limits = ("-c", TRL["1.14"], "-c", "constraints/unsloth.txt", "--override", "constraints/unsloth-cpu.txt")
    install_here = ("uv", "pip", "install", "-q", "--python", python, "--find-links", str(wheels))
    session.run(*install_here, *limits, "aligntune[unsloth,report]")
    told = {"HOME": str(home), "ALIGNTUNE_UNSLOTH_CPU": "1"}
    session.run(python, "-m", "aligntune", "diagnose", "--deep", external=True, env=told)
    demo = home / "demo"
    session.run(
        *(python, "-m", "aligntune", "demo", "--backend", "unsloth", "--output-dir", str(demo)), external=True, env=told
    )
    if '"backend": "unsloth"' not in (demo / "run.json").read_text("utf-8"):
        session.error("the demo was not trained by Unsloth")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Start-up and step time against plain TRL, in alternating pairs. Takes about twenty minutes; quote ratios only."""
    install(session, NEWEST)
    session.run("python", "benchmarks/start_up.py", *session.posargs)
    session.run("python", "benchmarks/step_time.py", *session.posargs)
    session.run("python", "benchmarks/plugins.py", *session.posargs)
