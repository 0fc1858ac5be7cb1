"""Bad input that only the model, its tokenizer or TRL can tell: the second documents of the files of cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aligntune_core.cli.main import run
from aligntune_core.testing.bad_inputs import check_text, lay_out, picture, read_cases

CASES = read_cases(Path(__file__).parents[3] / "tests/bad_inputs", document=1)


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_bad_input(case: dict[str, Any], in_tmp: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay_out(case, in_tmp, model=tiny)
    before = picture(case, in_tmp)
    code = run(["train", "run.yaml"])
    text = "\n".join(capsys.readouterr())
    check_text(case, text)
    assert code == case.get("exit", 2), text
    assert picture(case, in_tmp) == before
