"""The contract: how the plugin is found, and what it says of itself."""

from __future__ import annotations

import pytest
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from aligntune_core.algorithms import ALGORITHMS
from aligntune_core.checkpoint_head import read_head
from aligntune_core.config import CONFIGS
from aligntune_core.discovery import PROJECT, Entry
from aligntune_core.testing.suite.base import SuiteBase
from aligntune_core.testing.suite.checking import broken, check, listed
from aligntune_core.testing.suite.watching import digest


def _bounds(requirements: tuple[str, ...]) -> tuple[bool, bool]:
    """Whether the requirement on us says from which version on, and up to which."""
    operators: set[str] = set()
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if canonicalize_name(requirement.name) == PROJECT:
            operators |= {specifier.operator for specifier in requirement.specifier}
    both = {"==", "~=", "==="}
    return bool(operators & (both | {">=", ">"})), bool(operators & (both | {"<=", "<"}))


class ContractChecks(SuiteBase):
    """The entry point, the metadata, and the claims."""

    def test_it_is_found_and_loads(self) -> None:
        registry = self.registry()
        if (failure := registry.failures.get(self.backend)) is not None and self.backend not in registry:
            remedy = getattr(failure.error, "remedy", "") or "import the module by hand to see the whole traceback"
            broken(f"the plugin fails while it is {failure.phase}: {failure.reason}", remedy)
        if (off := registry.disabled.get(self.backend)) is not None:
            broken(f"the plugin is switched off: {off.reason}", off.remedy)
        names = ", ".join(sorted(registry.known)) or "none"
        remedy = f"install its package, and give the entry point's name as `backend`; there are: {names}"
        check(self.backend in registry, f"no backend is called '{self.backend}'", remedy)

    def test_its_metadata_says_which_versions_of_aligntune_it_fits(self) -> None:
        if self.plugin is not None and not isinstance(self.plugin, Entry):
            pytest.skip("the plugin was given as an object, so it has no metadata")
        lower, upper = _bounds(self.found.entry.requires)
        distribution = self.found.distribution
        remedy = (
            'write "aligntune>=0.1,<0.2" among the dependencies in pyproject.toml, with the versions that you tried'
        )
        check(lower, f"{distribution} does not require aligntune from a version on", remedy)
        check(upper, f"{distribution} does not require aligntune below a version: a later one may break it", remedy)

    def test_it_describes_itself_alike_each_time(self) -> None:
        again = self.fresh_registry().backends.get(self.backend)
        remedy = "build the claims from constants; define a config class once, at the top of a module"
        check(again, "at the second call provides_algorithms() fails", remedy)
        first, second = self.claims(), dict(again.algorithms) if again else {}
        differing = sorted(name for name in {*first, *second} if first.get(name) != second.get(name))
        check(
            not differing,
            f"provides_algorithms() says something else at the second call: {', '.join(differing)}",
            remedy,
        )

    def test_it_trains_something(self) -> None:
        remedy = "give an AlgorithmSupport with at least one cell of level full or limited"
        check(self.cells(), "it claims nothing that it trains", remedy)

    def test_a_claim_names_settings_that_there_are(self, algorithm: str) -> None:
        claim = self.claims()[algorithm]
        if claim.config is None and algorithm not in CONFIGS:
            remedy = "give `config`, a subclass of TrainingConfig"
            broken(f"{algorithm} has no settings: core has none for it, and the claim brings none", remedy)
        unknown = sorted(claim.settings - set(self.config_of(algorithm).model_fields))
        remedy = f"correct the names; the settings are the fields of {self.config_of(algorithm).__name__}"
        check(not unknown, f"{algorithm} claims settings that do not exist: {', '.join(unknown)}", remedy)

    def test_an_algorithm_of_its_own_says_what_it_is(self, algorithm: str) -> None:
        claim = self.claims()[algorithm]
        if algorithm in ALGORITHMS:
            return
        missing = [name for name in ("config", "about") if getattr(claim, name) is None]
        remedy = "give config, a subclass of TrainingConfig, and about, an Algorithm with title, summary and paper"
        check(not missing, f"core does not know {algorithm}, and the claim has no {' and no '.join(missing)}", remedy)
        about = claim.about
        empty = [name for name in ("title", "summary", "paper") if about and not getattr(about, name).strip()]
        check(not empty, f"`about` of {algorithm} has no {', '.join(empty)}", "write it: 'aligntune explain' shows it")

    def test_a_setting_of_its_own_says_what_it_is(self, algorithm: str) -> None:
        core = CONFIGS.get(algorithm)
        fields = self.config_of(algorithm).model_fields
        bare = [n for n, f in fields.items() if core is None and not f.description]
        remedy = "make the field with aligntune_core.config.setting(default, text, source)"
        check(not bare, f"{algorithm} has settings without a description: {listed(bare)}", remedy)

    def test_a_tiny_model_is_of_its_type_and_the_same_at_each_call(
        self, model_type: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("tiny")
        written = [self.write_model(model_type, folder / name) for name in ("first", "second")]
        remedy = f"let tiny_model('{model_type}', path) write one: it is what the demo and this suite train"
        check(all(written), f"there is no tiny model of type {model_type}, which is claimed", remedy)
        seen = read_head(str(folder / "first"), None, trust_remote_code=False).model_type
        remedy = "write the model_type and architectures of such a model into its config.json"
        check(seen == model_type, f"core takes the tiny model of type {model_type} for {seen}", remedy)
        remedy = "seed the weights with a constant, and write no times or paths into the files"
        check(
            digest(folder / "first") == digest(folder / "second"), "tiny_model() writes other bytes each time", remedy
        )
