"""The public face: the names of the contract, and imports only."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import aligntune
import aligntune_core
from aligntune.core import backend_factory
from aligntune_core import errors

FUNCTIONS = {
    "get_trainer",
    "create_sft_trainer",
    "create_rl_trainer",
    "list_backends",
    "get_backend_status",
    "support_matrix",
}
ERRORS = {n for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, BaseException)}
FOR_PLUGINS = {
    "hookimpl",
    "AlgorithmSupport",
    "Availability",
    "Environment",
    "TrainRequest",
    "TrainResult",
    "BackendTrainer",
    "RunEvents",
}
FACE = Path(aligntune.__file__).parent


def test_aligntune_has_the_names_of_the_contract() -> None:
    assert set(aligntune.__all__) == {*FUNCTIONS, *ERRORS, "BackendType", "Trainer", "TrainResult"}
    assert aligntune.__all__ == sorted(aligntune.__all__)


@pytest.mark.parametrize("name", aligntune.__all__)
def test_each_name_is_there_and_explained(name: str) -> None:
    assert inspect.getdoc(getattr(aligntune, name))
    assert name in dir(aligntune)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        aligntune.nonsense  # noqa: B018


def test_the_documents_import_path_has_the_same_objects() -> None:
    assert set(backend_factory.__all__) == set(aligntune.__all__)
    assert all(getattr(backend_factory, n) is getattr(aligntune, n) for n in backend_factory.__all__)


def test_plugin_authors_find_everything_in_one_place() -> None:
    assert set(aligntune_core.__all__) >= FOR_PLUGINS | ERRORS
    assert aligntune_core.__all__ == sorted(aligntune_core.__all__, key=lambda n: (n.islower(), n))
    assert all(hasattr(aligntune_core, name) for name in aligntune_core.__all__)


@pytest.mark.parametrize("path", sorted(FACE.rglob("*.py")), ids=lambda p: str(p.relative_to(FACE)))
def test_the_face_holds_imports_only(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    allowed = {"__getattr__", "__dir__"}
    for node in tree.body:
        assert not isinstance(node, ast.ClassDef | ast.For | ast.While | ast.With | ast.Try)
        assert not isinstance(node, ast.FunctionDef) or node.name in allowed


def test_the_type_checker_and_the_interpreter_see_the_same_names() -> None:
    tree = ast.parse((FACE / "__init__.py").read_text("utf-8"))
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert set(seen) == set(aligntune.__all__)
    for name, module in seen.items():
        assert getattr(importlib.import_module(str(module)), name) is getattr(aligntune, name)


def test_a_signature_says_what_is_by_keyword_only() -> None:
    for function in (aligntune.create_sft_trainer, aligntune.create_rl_trainer):
        kinds = {p.kind for p in inspect.signature(function).parameters.values()}
        assert kinds == {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}
    assert list(inspect.signature(aligntune.get_trainer).parameters)[:2] == ["algorithm", "backend"]
