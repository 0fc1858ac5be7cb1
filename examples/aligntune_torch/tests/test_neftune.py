"""NEFTune: the noise of the paper, in training only."""

from __future__ import annotations

import math

import pytest
import torch
from aligntune_torch.neftune_trainer import add_noise

from aligntune_core import ConfigError

LENGTHS, WIDTH, ALPHA = (400, 25), 64, 5.0


@pytest.fixture
def noise() -> torch.Tensor:
    """What is added to two rows, of 400 tokens and of 25, in one batch."""
    mask = torch.tensor([[1] * 400, [1] * 25 + [0] * 375])
    torch.manual_seed(0)
    return add_noise(torch.zeros(2, 400, WIDTH), mask, ALPHA)


@pytest.mark.parametrize("row", [0, 1], ids=["a long row", "a short row"])
def test_the_noise_is_uniform_within_alpha_over_the_root_of_length_times_width(noise, row):
    own = noise[row, : LENGTHS[row]]
    bound = ALPHA / math.sqrt(LENGTHS[row] * WIDTH)
    assert own.abs().max().item() == pytest.approx(bound, rel=1e-2)
    assert own.abs().max() <= bound
    assert own.mean().item() == pytest.approx(0, abs=bound / 20)
    assert own.std().item() == pytest.approx(bound / math.sqrt(3), rel=2e-2)


def test_the_noise_of_a_row_is_about_as_long_as_the_paper_says_whatever_its_length(noise):
    for row in noise:
        assert row.norm().item() == pytest.approx(ALPHA / math.sqrt(3), rel=2e-2)


def test_padding_gets_no_noise(noise):
    assert not noise[1, 25:].any()


def test_there_is_noise_in_training_and_none_in_evaluation(make, tmp_path, six_rows, metrics):
    plain = make("sft", max_steps=1, eval_dataset=six_rows, output_dir=str(tmp_path / "sft"))
    noisy = make("neftune", max_steps=1, eval_dataset=six_rows)
    assert noisy.evaluate() == plain.evaluate()
    plain.train()
    noisy.train()
    assert metrics(noisy)[0]["loss"] != metrics(plain)[0]["loss"]


def test_with_hardly_any_noise_it_is_sft(make, tmp_path, metrics):
    plain = make("sft", max_steps=3, output_dir=str(tmp_path / "sft"))
    noisy = make("neftune", max_steps=3, neftune_noise_alpha=1e-9)
    for trainer in (plain, noisy):
        trainer.train()
    expected = [row["loss"] for row in metrics(plain)]
    assert [row["loss"] for row in metrics(noisy)] == pytest.approx(expected, rel=1e-6)


def test_its_setting_has_the_papers_default_and_is_kept_with_the_run(make):
    assert make("neftune").resolved["neftune_noise_alpha"] == 5.0
    assert make("NEFTune", neftune_noise_alpha=10).resolved["neftune_noise_alpha"] == 10.0
    assert "neftune_noise_alpha" not in make("sft").resolved


@pytest.mark.parametrize("alpha", [0, -1, math.nan, math.inf])
def test_an_alpha_that_means_nothing_is_refused(make, alpha):
    with pytest.raises(ConfigError, match="neftune_noise_alpha"):
        make("neftune", neftune_noise_alpha=alpha)


def test_sft_has_no_such_setting(make):
    with pytest.raises(ConfigError, match="neftune_noise_alpha: no setting has this name"):
        make("sft", neftune_noise_alpha=5)
