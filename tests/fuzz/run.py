"""Schemathesis on the whole document: all phases, all checks."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import hypothesis
import schemathesis
from schemathesis.config import ProjectConfig, SchemathesisConfig
from schemathesis.config._checks import POSITIVE_DATA_ACCEPTANCE_EXPECTED_STATUSES
from schemathesis.engine import events, from_schema
from schemathesis.engine.run import PhaseName

from tests.fuzz.sense import Sense
from tests.fuzz.service import World

_TURN_EVERY = 8  # calls


@dataclass
class Outcome:
    """What a run has found."""

    cases: int = 0
    answers: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))  # operation → status
    scenarios: int = 0  # of the stateful phase
    failures: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def run(world: World, *, seed: int, max_examples: int, scenarios: int) -> Outcome:
    """Call every operation of the service's document."""
    outcome = Outcome()
    sense = Sense(world)
    config = SchemathesisConfig.from_dict(_settings(world, seed, max_examples, scenarios))
    schema = schemathesis.openapi.from_url(f"{world.url}/openapi.json", config=config)

    @schema.hook
    def map_case(context: Any, case: Any) -> Any:
        sense.give(case)
        return case

    @schema.hook
    def after_call(context: Any, case: Any, response: Any) -> None:
        outcome.cases += 1
        outcome.answers[case.operation.label][response.status_code] += 1
        if outcome.cases % _TURN_EVERY == 0:
            world.turn()

    with _without_optimising():
        found = list(from_schema(schema).execute())
    for event in found:
        if isinstance(event, events.ScenarioFinished):
            outcome.scenarios += event.phase is PhaseName.STATEFUL_TESTING
            failed = [one for checks in event.recorder.checks.values() for one in checks if one.failure_info]
            for check in failed:
                failure = check.failure_info.failure
                name = f"{check.name}: {failure.operation}: {failure.title}"
                outcome.failures.setdefault(name, f"{failure.message}\n{check.failure_info.code_sample}")
        elif isinstance(event, events.NonFatalError):
            outcome.errors.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return outcome


@contextmanager
def _without_optimising() -> Iterator[None]:
    """Leave out Hypothesis's search for extreme examples, which may take as long as all the rest for one operation."""
    settings_of = ProjectConfig.get_hypothesis_settings

    def without(*args: Any, **kwargs: Any) -> hypothesis.settings:
        chosen = settings_of(*args, **kwargs)
        return hypothesis.settings(chosen, phases=set(chosen.phases) - {hypothesis.Phase.target})

    with mock.patch.object(ProjectConfig, "get_hypothesis_settings", without):
        yield


# What no schema can say: which values a model takes together, what a file holds, what has expired meanwhile, and that a
# key was used for something else before. So valid by the schema, and refused all the same.
_REFUSED_ALL_THE_SAME = {
    "submit_job": ["413", "415", "422"],
    "create_video": ["400", "413", "415", "422"],
    "retry_job": ["410", "422"],
    "estimate_job": ["422"],
    "drain_gpu": ["422"],
    "drain_gpus": ["422"],
    "get_advice": ["422"],
    "get_image": ["410", "416"],
    "get_timeline": ["422"],
    "get_video": ["410", "416"],
    "get_thumbnail": ["410", "416"],
    "get_preview": ["410", "416"],
    "download_video": ["400", "410", "416"],
    "list_events": ["410"],
}


def _settings(world: World, seed: int, max_examples: int, scenarios: int) -> dict[str, Any]:
    generation = {"max-examples": max_examples, "deterministic": True, "database": "none"}
    return {
        "seed": seed,
        "cache": {"enabled": False},
        "headers": {"Authorization": f"Bearer {world.secret}"},
        "continue-on-failure": True,
        "request-timeout": 10,
        "max-stream-events": 1,
        "generation": generation,
        "operations": [
            {
                "include-operation-id": name,
                "checks": {
                    "positive_data_acceptance": {
                        "expected-statuses": [*POSITIVE_DATA_ACCEPTANCE_EXPECTED_STATUSES, *statuses]
                    }
                },
            }
            for name, statuses in _REFUSED_ALL_THE_SAME.items()
        ],
        # Only valid calls follow each other: what is invalid is so alone, and schemathesis cannot judge its own forms
        # with a file there ("Unsupported type: 'Binary'").
        "phases": {"stateful": {"generation": {**generation, "max-examples": scenarios, "mode": "positive"}}},
    }
