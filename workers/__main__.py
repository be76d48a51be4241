"""`python -m workers` is `reelq-worker`."""

from workers.cli import main

main()
