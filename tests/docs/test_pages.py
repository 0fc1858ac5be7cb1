"""The documentation: what is generated is current, every link leads somewhere, every hook and error is there."""

from __future__ import annotations

import inspect
import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from aligntune_core import errors
from aligntune_core.hookspecs import BackendSpecs, PluginSpecs

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)
NAMES = [str(p.relative_to(DOCS)) for p in PAGES]

_markdown = MarkdownIt("commonmark").enable("table")


def tokens(page: Path) -> Iterator[Token]:
    """All tokens of a page, those within lines too."""
    for token in _markdown.parse(page.read_text("utf-8")):
        yield token
        yield from token.children or ()


def headings(page: Path) -> list[str]:
    """The headings' text."""
    found = _markdown.parse(page.read_text("utf-8"))
    return [
        "".join(child.content for child in after.children or ())
        for token, after in itertools.pairwise(found)
        if token.type == "heading_open"
    ]


def anchors(page: Path) -> set[str]:
    """The headings' anchors, as MyST and GitHub make them."""
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings(page)}


def test_generated_pages_are_current() -> None:
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_link_and_anchor_resolves(name: str) -> None:
    page = DOCS / name
    for token in tokens(page):
        if token.type != "link_open":
            continue
        target, _, anchor = str(token.attrs["href"]).partition("#")
        assert "://" not in target, f"{target} leads out of the documentation"
        linked = (page.parent / target).resolve() if target else page
        assert linked in PAGES, f"{name}: there is no page {target}"
        assert not anchor or anchor in anchors(linked), f"{name}: {target} has no heading #{anchor}"


def test_the_pages_that_the_user_documents_link_to_are_there() -> None:
    linked = """getting-started/backend-selection.md unsloth_compatibility.md advanced/performance.md backends/trl.md
        backends/unsloth.md backends/comparison.md"""
    assert set(linked.split()) <= set(NAMES)
    assert {"backend-issues", "backend-interference"} <= anchors(DOCS / "user-guide/troubleshooting.md")


def test_each_hook_has_a_heading_with_its_exact_signature() -> None:
    found = headings(DOCS / "reference/hooks.md")
    hooks = [pair for specs in (BackendSpecs, PluginSpecs) for pair in inspect.getmembers(specs, inspect.isfunction)]
    assert hooks
    for name, hook in hooks:
        signature = inspect.signature(hook)
        parameters = [f"{p.name}: {p.annotation}" for p in signature.parameters.values() if p.name != "self"]
        assert f"{name}({', '.join(parameters)}) -> {signature.return_annotation}" in found


def test_each_error_class_is_on_the_page_with_its_exit_code() -> None:
    page = DOCS / "reference/errors.md"
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.AlignTuneError)]
    for cls in classes:
        _, _, section = page.read_text("utf-8").partition(f"\n### `{cls.__name__}`\n")
        assert f"Exit code {cls.exit_code}." in section.partition("\n###")[0]
    assert "RunInterrupted" in headings(page)


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5, 6, 130, 143])
def test_each_exit_code_is_explained(code: int) -> None:
    for page in ("reference/errors.md", "user-guide/runs.md"):
        assert f"\n| {code} | " in (DOCS / page).read_text("utf-8")
