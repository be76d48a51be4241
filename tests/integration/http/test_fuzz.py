"""The whole document, called in ways that nobody foresaw; `make fuzz` does it for longer."""

from pathlib import Path

import pytest

from tests.fuzz.run import run
from tests.fuzz.service import serving

_SEED = 1
_FEWEST_CASES = 2000
_FEWEST_SCENARIOS = 10  # sequences of calls along the links; equal ones count once


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")  # of large examples
@pytest.mark.timeout(300)
def test_whatever_is_called_the_answer_is_a_documented_one(tmp_path: Path) -> None:
    with serving(tmp_path) as world:
        outcome = run(world, seed=_SEED, max_examples=12, scenarios=100)
    assert not outcome.failures, "\n\n".join(f"{what}\n{how}" for what, how in outcome.failures.items())
    assert not outcome.errors
    assert outcome.cases >= _FEWEST_CASES
    assert outcome.scenarios >= _FEWEST_SCENARIOS
    unreached = [
        name for name, statuses in outcome.answers.items() if not any(200 <= status < 300 for status in statuses)
    ]
    assert not unreached
