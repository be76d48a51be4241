"""What waits for other machines: each topic once, as few messages as may be, and a limit."""

import pytest

from scheduler.outbox import Channel, Outbox, pack, unpack

CHANNELS = {"work": Channel("w", anything="work!", gather_seconds=1.0), "news": Channel("n", "news!", 10.0)}


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(CHANNELS)


def test_a_topic_waits_once_on_its_channel(outbox: Outbox) -> None:
    assert [outbox.put("news", topic) for topic in ("a", "b", "a")] == [True, False, False]
    assert outbox.put("work", "a"), "the first of another channel"

    assert outbox.take(now=0.0) == {"news": {"a", "b"}, "work": {"a"}}
    assert outbox.take(now=0.0) == {}
    assert outbox.put("news", "a")


def test_what_comes_first_is_due_at_once_and_what_follows_gathers(outbox: Outbox) -> None:
    assert outbox.due_at() is None
    outbox.put("news", "a")
    assert outbox.due_at() == float("-inf")
    outbox.take(now=100.0)
    assert outbox.due_at() is None
    outbox.put("news", "b")
    assert outbox.due_at() == 110.0


def test_the_most_urgent_channel_takes_the_others_along(outbox: Outbox) -> None:
    for channel in CHANNELS:
        outbox.put(channel, "a")
    outbox.take(now=100.0)
    outbox.put("news", "b")
    outbox.put("work", "b")

    assert outbox.due_at() == 101.0
    assert outbox.take(now=101.0) == {"news": {"b"}, "work": {"b"}}
    outbox.put("news", "c")
    assert outbox.due_at() == 111.0


def test_too_many_topics_give_way_to_one_that_says_anything(outbox: Outbox) -> None:
    for number in range(1000):
        outbox.put("news", str(number))
    assert len(outbox.take(now=0.0)["news"]) == 1000

    firsts = [outbox.put("news", str(number)) for number in range(100_000)]
    assert firsts == [True] + [False] * 99_999
    assert outbox.take(now=0.0) == {"news": {"news!"}}


def test_anything_stands_for_every_other_topic(outbox: Outbox) -> None:
    for topic in ("a", "news!", "b"):
        outbox.put("news", topic)
    assert outbox.take(now=0.0) == {"news": {"news!"}}


def test_payloads_are_below_the_limit_and_lose_nothing() -> None:
    topics = [f"tö-{number}" for number in range(3000)]
    payloads = list(pack("me", topics))

    assert [topic for payload in payloads for topic in unpack(payload)[1]] == topics
    assert {unpack(payload)[0] for payload in payloads} == {"me"}
    assert all(len(payload.encode()) < 8000 for payload in payloads)
    assert len(payloads) == sum(1 + len(topic.encode()) for topic in topics) // 7999 + 1, "each is full"


def test_no_topics_are_no_payload() -> None:
    assert list(pack("me", [])) == []


def test_a_payload_may_have_no_topics() -> None:
    assert unpack("") == ("", [])
