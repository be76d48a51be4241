"""The processes that own GPUs: supervisor, runner, probes and pipelines."""
