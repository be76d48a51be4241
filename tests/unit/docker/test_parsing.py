"""The parser that the other tests trust."""

import pytest

from tests.unit.docker.parsing import ignored, image_instructions, parse_instruction, parse_stages

TEXT = """\
# syntax=docker/dockerfile:1
FROM one:1 AS base
ENV A=1 \\
    # a comment between continued lines
    B="two words"
FROM two:2 as other
RUN --mount=type=cache,target=/c --mount=type=bind,from=base,source=/x,target=/x make \\
    && install
FROM base
COPY --from=other /x /y
ENTRYPOINT ["run", "--fast"]
"""


def test_stages_flags_and_continuations():
    stages = parse_stages(TEXT)
    assert [(s.base, s.name) for s in stages] == [("one:1", "base"), ("two:2", "other"), ("base", "")]
    assert stages[0].instructions[0].words == ["A=1", "B=two words"]
    run = stages[1].instructions[0]
    assert run.mounts() == [
        {"type": "cache", "target": "/c"},
        {"type": "bind", "from": "base", "source": "/x", "target": "/x"},
    ]
    assert run.text == "make && install"
    assert [i.name for i in image_instructions(stages)] == ["ENV", "COPY", "ENTRYPOINT"]
    assert stages[2].instructions[0].flag("from") == "other"
    assert stages[2].instructions[1].words == ["run", "--fast"]


@pytest.mark.parametrize("text", ["RUN x", "FROM $BASE", "FROM a:1\nRUN <<EOF\nx\nEOF", "FROM a:1\nRUN x \\"])
def test_what_it_cannot_read_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_stages(text)


def test_instruction_names_are_case_insensitive():
    assert parse_instruction("copy a b").name == "COPY"


@pytest.mark.parametrize(
    ("path", "out"),
    [
        ("app/cli.py", False),
        ("app", False),
        ("docker", True),
        ("docker/keep.py", False),
        ("docker/.env", True),
        (".git/HEAD", True),
        ("app/__pycache__/a.pyc", True),
        ("app/deep/__pycache__", True),
        ("apple", True),
    ],
)
def test_dockerignore_last_match_wins(path, out):
    assert ignored(path, "# all\n*\n!app\n!docker/keep.py\n**/__pycache__\n") is out
