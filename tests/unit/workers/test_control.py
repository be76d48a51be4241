"""Control: what stops an attempt, and which cause wins."""

import itertools
import threading

import pytest

from workers.control import Cause, Control, Interrupted

_SWITCHES = {Cause.LEASE_LOST: Control.lose, Cause.CANCEL: Control.cancel, Cause.RELEASE: Control.release}


def _control(*causes: Cause) -> Control:
    shutdown = threading.Event()
    control = Control(shutdown)
    for cause in causes:
        if cause is Cause.SHUTDOWN:
            shutdown.set()
        else:
            _SWITCHES[cause](control)
    return control


def test_an_undisturbed_attempt_goes_on() -> None:
    _control().check()


@pytest.mark.parametrize("count", range(1, len(Cause) + 1))
def test_the_gravest_cause_wins_in_whatever_order_they_came(count: int) -> None:
    for causes in itertools.permutations(Cause, count):
        with pytest.raises(Interrupted) as caught:
            _control(*causes).check()
        assert caught.value.cause is min(causes, key=list(Cause).index)


def test_a_cause_does_not_wear_off() -> None:
    control = _control(Cause.CANCEL)
    for _ in range(2):
        with pytest.raises(Interrupted, match="cancel"):
            control.check()


def test_shutdown_reaches_every_attempt_of_the_process() -> None:
    shutdown = threading.Event()
    controls = [Control(shutdown), Control(shutdown)]
    shutdown.set()
    for control in controls:
        with pytest.raises(Interrupted, match="shutdown"):
            control.check()
