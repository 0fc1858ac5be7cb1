"""What the backend says of itself."""

from __future__ import annotations

import pytest
from aligntune_torch.plugin import is_available, provides_algorithms

from aligntune_core import Availability, Environment

GOOD = {"torch": "2.13.0+cpu", "transformers": "5.17.0", "safetensors": "0.8.0rc1"}


def test_it_is_available_where_its_libraries_are():
    assert is_available(Environment(packages=GOOD)) == Availability(True)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("version", [None, "", "abc", "0.1", "9" * 5000])
def test_a_library_that_is_missing_or_old_is_named_with_a_remedy(name, version):
    packages = {key: value for key, value in (GOOD | {name: version}).items() if value is not None}
    verdict = is_available(Environment(packages=packages))
    if version == "9" * 5000:
        assert verdict.ok
    else:
        assert not verdict.ok
        assert verdict.reason.startswith(name)
        assert "pip install" in verdict.remedy


def test_several_processes_are_refused():
    verdict = is_available(Environment(packages=GOOD, world_size=2))
    assert (verdict.ok, verdict.reason) == (False, "it trains in one process")


def test_neftune_is_sft_with_one_setting_more():
    sft, neftune = provides_algorithms()
    assert neftune.settings - sft.settings == {"neftune_noise_alpha"}
    assert neftune.cells == sft.cells
    assert neftune.config is not None
    assert neftune.config.model_fields["neftune_noise_alpha"].default == 5.0
