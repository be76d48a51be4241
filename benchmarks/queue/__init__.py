"""The queue, measured beside other queues: `python -m benchmarks.queue --help`."""
