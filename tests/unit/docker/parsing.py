"""Just enough of the Dockerfile and .dockerignore formats for this project's files; the rest is refused."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name in capitals, its `--flag=value` options, and the rest of its text."""

    name: str
    flags: tuple[tuple[str, str], ...]
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments: of the JSON form as they stand, of the shell form split as a shell does."""
        return json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)

    def flag(self, name: str) -> str | None:
        """The value of an option given at most once, or None."""
        return next((value for key, value in self.flags if key == name), None)

    def mounts(self) -> list[dict[str, str]]:
        """The fields of each `--mount`."""
        given = [value for key, value in self.flags if key == "mount"]
        return [dict(part.partition("=")[::2] for part in value.split(",")) for value in given]


@dataclass(frozen=True)
class Stage:
    """One `FROM`: what it starts from, its name ("" when it has none) and its instructions."""

    base: str
    name: str
    instructions: tuple[Instruction, ...]


def logical_lines(text: str) -> Iterator[str]:
    """Yield instructions with their continued lines joined, and with all comments left out."""
    joined = ""
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        joined += line.strip()
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        yield joined
        joined = ""
    if joined:
        raise ValueError(f"the file ends inside a continued line: {joined!r}")


def parse_instruction(line: str) -> Instruction:
    """Split one logical line. Raises ValueError for a heredoc."""
    name, _, rest = line.partition(" ")
    flags = []
    while match := re.match(r"\s*--([a-z-]+)=(\S+)\s*", rest):
        flags.append((match[1], match[2]))
        rest = rest[match.end() :]
    if name.upper() in ("RUN", "COPY", "ADD") and "<<" in rest:
        raise ValueError(f"heredocs are not understood here: {line!r}")
    return Instruction(name.upper(), tuple(flags), rest.strip())


def parse_stages(text: str) -> list[Stage]:
    """Return a Dockerfile's stages in order. Raises ValueError for what it does not understand."""
    stages: list[tuple[str, str, list[Instruction]]] = []
    for instruction in map(parse_instruction, logical_lines(text)):
        if instruction.name == "FROM":
            base, *rest = instruction.words
            if "$" in base or (rest and rest[0].upper() != "AS"):
                raise ValueError(f"FROM is not understood: {instruction.text!r}")
            stages.append((base, rest[1] if rest else "", []))
        elif not stages:
            raise ValueError(f"{instruction.name} stands before the first FROM")
        else:
            stages[-1][2].append(instruction)
    return [Stage(base, name, tuple(instructions)) for base, name, instructions in stages]


def image_instructions(stages: list[Stage]) -> list[Instruction]:
    """Return the instructions that make the last stage's image: its base stages' first, then its own."""
    by_name = {stage.name: stage for stage in stages if stage.name}
    chain = [stages[-1]]
    while chain[0].base in by_name:
        chain.insert(0, by_name[chain[0].base])
    return [instruction for stage in chain for instruction in stage.instructions]


def environment(instructions: list[Instruction]) -> dict[str, str]:
    """Return the variables that ENV sets, later ones winning."""
    pairs = [word.partition("=") for i in instructions if i.name == "ENV" for word in i.words]
    return {name: value for name, _, value in pairs}


def ignored(path: str, patterns: str) -> bool:
    """Say whether a .dockerignore with the text `patterns` keeps `path` out of the build.

    The last line that matches the path or a folder above it wins, as in Docker's own matcher.
    """
    out = False
    candidates = [PurePosixPath(path), *PurePosixPath(path).parents][:-1]
    for line in patterns.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        regex = _glob_regex(pattern.removeprefix("!").strip("/"))
        if any(regex.fullmatch(str(candidate)) for candidate in candidates):
            out = not pattern.startswith("!")
    return out


def _glob_regex(pattern: str) -> re.Pattern[str]:
    translated = ""
    for part in re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", pattern):
        special = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        translated += special.get(part) or re.escape(part)
    return re.compile(translated)
