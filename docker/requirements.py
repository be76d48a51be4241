"""Print what reelq and the extras named as arguments require, one requirement a line, from ./pyproject.toml.

The images install these in a layer below the code, so that a change of code rebuilds a layer of kilobytes.
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: str, extras: list[str]) -> list[str]:
    """Return the base requirements in `pyproject` (the file's text), then those of `extras`.

    Raises KeyError for an extra that the project does not have.
    """
    project = tomllib.loads(pyproject)["project"]
    found = list(project["dependencies"])
    for extra in extras:
        found += project["optional-dependencies"][extra]
    return found


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(Path("pyproject.toml").read_text(), sys.argv[1:])) + "\n")
