import threading

from app.background import Chore, maintaining


class Rounds:
    """Fails at its first round, and says when it has done three."""

    def __init__(self) -> None:
        self.done = 0
        self.enough = threading.Event()

    def run_once(self) -> list[str]:
        self.done += 1
        if self.done == 1:
            raise RuntimeError("the store is away")
        if self.done == 3:
            self.enough.set()
        return ["job_a"]


def test_a_round_that_fails_ends_neither_its_chore_nor_another() -> None:
    one, other = Rounds(), Rounds()
    with maintaining(Chore("one", one.run_once, 0.001), Chore("other", other.run_once, 0.001)):
        assert one.enough.wait(10)
        assert other.enough.wait(10)
    after = one.done
    assert not [thread for thread in threading.enumerate() if thread.name in ("one", "other")]
    assert one.done == after
