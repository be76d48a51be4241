"""Run a command that the kernel kills when its parent ends, in whatever way.

    python -m benchmarks.http.leash PARENT_PID COMMAND …

Standard library only, and Linux only.
"""

import ctypes
import os
import signal
import sys

LEASHED = "BENCH_LEASHED"  # the variable with the process id of the command
_PR_SET_PDEATHSIG = 1


def leash(parent: int) -> None:
    """Let this process be killed when its parent, the process `parent`, ends; end it if that has happened."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    """Become the command."""
    leash(int(sys.argv[1]))
    os.environ[LEASHED] = str(os.getpid())
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  the command line is the benchmark's own


if __name__ == "__main__":
    main()
