"""The hooks and the values that cross the seam, from their source."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator

from _generate.markdown import code, docstring, fence
from _generate.markdown import page as make_page
from aligntune_core import algorithms, environment, hookspecs, saved_values, values
from aligntune_core.discovery import BACKENDS, PLUGINS
from aligntune_core.hookspecs import REQUIRED, BackendSpecs, PluginSpecs
from aligntune_core.rewards import values as rewards

VALUES = (
    values.AlgorithmSupport,
    values.Support,
    values.Availability,
    values.Isolation,
    environment.Environment,
    environment.Device,
    values.TrainRequest,
    values.BackendTrainer,
    values.Preview,
    values.RowPreview,
    values.RowTokens,
    values.RunEvents,
    values.TrainResult,
    saved_values.OpenRequest,
    saved_values.OpenModel,
    saved_values.Sampling,
    saved_values.MergeReport,
    algorithms.Algorithm,
    values.RunInfo,
    values.Callback,
    rewards.Reward,
)

_ENTRY_POINT = """\
[project]
name = "aligntune-mine"
dependencies = ["aligntune>=0.1,<0.2"]

[project.entry-points."{group}"]
mine = "aligntune_mine.plugin"
"""


def _tree(cls: type) -> ast.ClassDef:
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    if not isinstance(tree, ast.ClassDef):
        raise TypeError(cls)
    return tree


def _methods(tree: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def _signature(node: ast.FunctionDef) -> str:
    """As it stands in the source, without `self`; a property is written as an attribute."""
    returns = ast.unparse(node.returns) if node.returns else "None"
    if any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list):
        return f"{node.name}: {returns}"
    node.args.args = [argument for argument in node.args.args if argument.arg != "self"]
    return f"{node.name}({ast.unparse(node.args)}) -> {returns}"


def _hook(node: ast.FunctionDef) -> str:
    return f"### {code(_signature(node))}\n\n{docstring(ast.get_docstring(node))}"


def _fields(tree: ast.ClassDef) -> str:
    """The fields of a class, each with the text under it, as Python."""
    lines = []
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            lines.append(f"{ast.unparse(node)}{f'  # {text}' if text else ''}")
    return fence("\n".join(lines)) if lines else ""


def _value(cls: type) -> str:
    tree = _tree(cls)
    methods = [f"#### {code(_signature(m))}\n\n{docstring(ast.get_docstring(m))}" for m in _methods(tree)]
    parts = [f"### {code(cls.__name__)}", docstring(cls.__doc__), _fields(tree), *methods]
    return "\n\n".join(part.strip() for part in parts if part)


def page() -> str:
    """The page for authors of backends."""
    backend, plugin = (list(map(_hook, _methods(_tree(specs)))) for specs in (BackendSpecs, PluginSpecs))
    required = ", ".join(map(code, REQUIRED))
    intro = docstring((hookspecs.__doc__ or "").partition("\n\n")[2])
    promise = (
        f"Required are {required}. Each is asked of one backend at a time. What a hook prints goes to standard error, "
        "what it raises is shown with the plugin's name, and what it returns is checked. A plugin that cannot be "
        "loaded is left out with one warning; asked for by name, it is an error."
    )
    where = "Everything on this page can be imported from `aligntune_core`; the test kit is `aligntune_core.testing`."
    first, second = (fence(_ENTRY_POINT.format(group=group), "toml") for group in (BACKENDS, PLUGINS))
    optional = (
        "A plugin of this group has any of the hooks below. Its commands are called as `aligntune mine COMMAND`; its "
        "callbacks follow a run whose `report_to` names it. Until then it is not imported."
    )
    parts = [intro, where, "## Hooks of a backend", first, promise, *backend]
    parts += ["## Hooks of other plugins", second, optional, *plugin]
    return make_page("Hooks", *parts, "## Values", *map(_value, VALUES))
