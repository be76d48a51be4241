"""`--set name=value` gives the server's types, `--metadata key=value` text."""

import pytest
import typer

from app.cli.parameters import pairs, parse


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("num_frames=16", "num_frames", 16),
        ("num-frames=16", "num_frames", 16),
        ("guidance_scale=9", "guidance_scale", 9.0),
        ("priority=2", "priority", 2.0),
        ("negative_prompt=42", "negative_prompt", "42"),
        ("negative_prompt=a=b", "negative_prompt", "a=b"),
        ("negative_prompt=", "negative_prompt", ""),
        ("model=7", "model", "7"),
        ("deadline=2030", "deadline", "2030"),
        ("result_ttl_seconds=3600", "result_ttl_seconds", 3600),
        ('webhook_events=["job.failed"]', "webhook_events", ["job.failed"]),
        ("preset=fast", "preset", "fast"),
        ("allow_int8=true", "allow_int8", True),
        ("allow-int8=0", "allow_int8", False),
        ('metadata={"a": "b"}', "metadata", {"a": "b"}),
        ("a_later_one=1.5", "a_later_one", 1.5),
        ("a_later_one=true", "a_later_one", True),
        ("a_later_one=words", "a_later_one", "words"),
        ("a_later_one=NaN", "a_later_one", "NaN"),
    ],
)
def test_types(setting, name, value):
    found = parse([setting])
    assert found == {name: value}
    assert type(found[name]) is type(value)


def test_the_last_of_two_counts():
    assert parse(["seed=1", "seed=2"]) == {"seed": 2}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("num_frames", "not name=value"),
        ("=16", "not name=value"),
        ("num_frames=16.5", "num_frames must be a whole number"),
        ("num_frames=", "num_frames must be a whole number"),
        ("guidance_scale=high", "guidance_scale must be a number"),
        ("guidance_scale=nan", "guidance_scale must be a number"),
        ("guidance_scale=inf", "guidance_scale must be a number"),
        ("allow_int8=yes", "allow_int8 must be true or false"),
        ("metadata=[1]", "metadata must be a JSON object"),
        ("metadata={", "metadata must be a JSON object"),
    ],
)
def test_refused(setting, words):
    with pytest.raises(typer.BadParameter, match=words):
        parse([setting])


def test_metadata_is_text():
    assert pairs(["a=1", "b=c=d", "e="]) == {"a": "1", "b": "c=d", "e": ""}


@pytest.mark.parametrize("text", ["words", "=1", ""])
def test_metadata_has_a_key(text):
    with pytest.raises(typer.BadParameter, match="is not key=value"):
        pairs([text])
