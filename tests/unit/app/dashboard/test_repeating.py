"""The command that repeats a job."""

import json
import shlex
from dataclasses import replace

from app.dashboard.repeating import curl
from scheduler.states import Window
from tests.unit.app.test_views import QUEUED

NASTY = 'it\'s "quoted" $(reboot) `x`\n; <file & @you'


def fields(command: str) -> dict[str, str]:
    """What curl would send, as a shell would hand it over."""
    words = shlex.split(command.partition("\n")[2].replace("\\\n", " "))
    given = [words[place + 1] for place, word in enumerate(words) if word == "--form-string"]
    return dict(field.split("=", 1) for field in given)


def test_it_says_all_that_was_said() -> None:
    job = replace(
        QUEUED,
        prompt=NASTY,
        metadata={"a": "<b>"},
        webhook_url="https://h/?a=1&b=2",
        webhook_events=("job.failed",),
        window=Window.OFF_PEAK,
        params=replace(QUEUED.params, negative_prompt="@blur", allow_int8=True, guidance_scale=7.123456789),
    )
    command = curl(job, "http://h:1", with_key=False)
    sent = fields(command)
    assert (sent["prompt"], sent["negative_prompt"], sent["webhook_url"]) == (NASTY, "@blur", "https://h/?a=1&b=2")
    assert (sent["allow_int8"], sent["guidance_scale"], sent["seed"]) == ("true", "7.123456789", str(job.params.seed))
    assert sent["window"] == "off_peak"
    assert (json.loads(sent["metadata"]), json.loads(sent["webhook_events"])) == ({"a": "<b>"}, ["job.failed"])
    assert f"-o {job.id}-image http://h:1/v1/jobs/{job.id}/image" in command
    assert f"-F image=@{job.id}-image" in command
    assert "REELQ_API_KEY" not in command


def test_what_was_not_said_is_left_out() -> None:
    sent = fields(curl(QUEUED, "http://h", with_key=False))
    assert not {"negative_prompt", "allow_int8", "metadata", "webhook_url", "webhook_events", "window"} & sent.keys()


def test_a_key_comes_from_the_environment() -> None:
    for line in curl(QUEUED, "https://h", with_key=True).split("\n")[:2]:
        assert '-H "Authorization: Bearer $REELQ_API_KEY"' in line
