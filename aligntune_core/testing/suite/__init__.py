"""The conformance suite: subclass it, name your backend, run pytest.

    from aligntune_core.testing import BackendSuite

    class TestMine(BackendSuite):
        backend = "mine"

The package of the backend is installed. Everything runs offline, on the tiny model that the backend writes; the suite
takes less than a minute for a few cells. What each check wants stands in its failure.

    contract       the entry point, the metadata, the claims, the tiny model
    describing     in a process of its own: imports nothing heavy, prints nothing, changes nothing
    availability   some thousand machines: a verdict for each, a reason and a remedy in each no
    honouring      every setting is honoured or refused; steps, rows and checkpoints come when they should
    training       every claimed cell trains, learns, evaluates, answers, saves, and is the same when loaded again
    repeating      the seed decides; a run that is interrupted and resumed ends like one that was not
"""

from __future__ import annotations

from typing import Any

from aligntune_core.testing.suite import reasons
from aligntune_core.testing.suite.availability import AvailabilityChecks
from aligntune_core.testing.suite.contract import ContractChecks
from aligntune_core.testing.suite.describing import DescribingChecks
from aligntune_core.testing.suite.honouring import SettingChecks
from aligntune_core.testing.suite.reasons import replaces
from aligntune_core.testing.suite.repeating import RepeatingChecks
from aligntune_core.testing.suite.samples import Other
from aligntune_core.testing.suite.training import TrainingChecks

__all__ = ["BackendSuite", "Other", "replaces"]


# pytest runs the checks of the last of these first.
class BackendSuite(
    RepeatingChecks, TrainingChecks, SettingChecks, AvailabilityChecks, DescribingChecks, ContractChecks
):
    """What a backend promises, as tests. Attributes and methods that a subclass may set: see `SuiteBase`.

    A subclass that leaves out or replaces a check says why, in a sentence; else the class cannot be made:

        left_out = {"test_training_makes_it_better[sft-text_generation-causal_lm]": "the tiny model has no room for it"}

        @replaces("a row is two steps of this backend")
        def test_an_epoch_has_its_steps(self, algorithm): ...

    Raises:
        TypeError: when a subclass is made that does otherwise.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        reasons.check_replaced(cls, BackendSuite)
        reasons.check_left_out(cls, BackendSuite, cls.left_out)
        reasons.check_marks(cls, reasons.marks_of(cls))
