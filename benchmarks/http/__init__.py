"""The front door, measured beside what does nothing and beside a peer: `python -m benchmarks.http --help`."""
