"""The command: measure, print a report, and store it."""

import os
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import machine
from benchmarks.queue import crash, environments, report, snapshot, throughput
from benchmarks.queue.children import Program, without_settings
from benchmarks.queue.claims import CASES, HEAD_FITS, DeepQueue
from benchmarks.queue.contestants import Arena, Contestant
from benchmarks.queue.options import Options, parse
from benchmarks.queue.servers import running_postgres, running_redis
from benchmarks.queue.timing import median_of, spread

_SNAPSHOT_JOBS = 20_000
_LARGE = 1_000_000  # only ours on SQLite is filled with more: the others would take many minutes
_BEGAN = time.monotonic()


def main() -> None:
    """Measure what the command line asks for."""
    options = parse()
    variables = without_settings()
    os.environ.clear()
    os.environ.update(variables)
    with (
        tempfile.TemporaryDirectory(prefix="reelq-bench-") as folder,
        running_postgres() as postgres,
        running_redis() as redis,
    ):
        arena = Arena(Path(folder), postgres, redis)
        contestants = arena.contestants(options.engines, peers=options.peers)
        if options.peers and redis is None:
            _say("redis-server is not installed: its queue is left out")
        for one in contestants:
            if not one.is_ours:
                environments.python_of(one.queue)
        results: dict[str, Any] = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(Path(folder)),
            "postgresql": postgres.settings(),
            "options": {name: str(getattr(options, name)) for name in Options.__slots__ if name != "output"},
            "contestants": {one.name: one.durability for one in contestants},
        }
        for name in options.measures:
            results[name] = _MEASURES[name](arena, contestants, options)
            _say(f"{name}: done")
    results["seconds"] = round(time.monotonic() - _BEGAN)
    results["targets"] = report.targets(results)
    text = report.markdown(results)
    print(text)
    if options.output is not None:
        report.store(options.output, results, text)


def _throughput(arena: Arena, contestants: list[Contestant], options: Options) -> dict[str, Any]:
    runs: dict[str, list[dict[str, float]]] = defaultdict(list)
    for repeat in range(options.repeats):
        for one in contestants:
            _say(f"throughput, {repeat + 1} of {options.repeats}: {one.name}")
            with arena.fresh(one) as program:
                run = throughput.measure(
                    program, jobs=options.jobs, dispatch_seconds=options.dispatch_seconds, is_ours=one.is_ours
                )
            runs[one.name].append(run)
    return {name: median_of(each) for name, each in runs.items()}


def _claims(arena: Arena, contestants: list[Contestant], options: Options) -> dict[str, Any]:
    with ExitStack() as stack:
        ours: dict[tuple[Contestant, int], DeepQueue] = {}
        theirs: dict[tuple[Contestant, int], Program] = {}
        for one in [one for one in contestants if one.claims]:
            for size in options.sizes:
                if size > _LARGE and not (one.is_ours and one.engine == "sqlite"):
                    continue
                _say(f"filling {one.name} with {size:,} jobs")
                program = stack.enter_context(arena.fresh(one))
                if one.is_ours:
                    ours[one, size] = queue = DeepQueue(program.url, program.folder)
                    stack.callback(queue.close)
                    queue.fill(size)
                else:
                    theirs[one, size] = program
                    program.play("fill", jobs=size + 2 * options.claims)
                if one.engine == "postgresql":
                    arena.postgres.settle(program.url)
        runs: dict[tuple[str, int, str], list[dict[str, float]]] = defaultdict(list)
        count = -(-options.claims // options.repeats)
        for repeat in range(options.repeats):
            _say(f"claims, {repeat + 1} of {options.repeats}")
            for case in CASES:
                for (one, size), queue in ours.items():
                    runs[one.name, size, case].append(spread(queue.claim(case, count)))
            for (one, size), program in theirs.items():
                runs[one.name, size, HEAD_FITS].append(program.play("claim", jobs=count))
    results: dict[str, Any] = {}
    for (name, size, case), each in runs.items():
        results.setdefault(name, {}).setdefault(str(size), {})[case] = median_of(each)
    return results


def _snapshot(arena: Arena, contestants: list[Contestant], options: Options) -> dict[str, Any]:
    results = {}
    for one in [one for one in contestants if one.is_ours and one.engine == "postgresql"]:
        _say("claims during an old snapshot")
        with arena.fresh(one) as program, closing(DeepQueue(program.url, program.folder)) as queue:
            queue.fill(_SNAPSHOT_JOBS)
            arena.postgres.settle(program.url)
            results[one.name] = snapshot.measure(
                queue, program.url, HEAD_FITS, claims=options.snapshot_claims, minutes=options.snapshot_minutes
            )
    return results


def _crash(arena: Arena, contestants: list[Contestant], options: Options) -> dict[str, Any]:
    ours = [one for one in contestants if one.is_ours]
    _say("killing workers")
    with ExitStack() as stack:
        programs = [stack.enter_context(arena.fresh(one)) for one in ours]
        seconds = crash.measure(programs, options.kills)
    return {
        one.name: {"median_seconds": round(median(each), 1), "longest_seconds": round(max(each), 1), "kills": len(each)}
        for one, each in zip(ours, seconds, strict=True)
    }


def _say(line: str) -> None:
    print(f"{time.monotonic() - _BEGAN:5.0f} s  {line}", file=sys.stderr, flush=True)


_MEASURES = {"throughput": _throughput, "claims": _claims, "snapshot": _snapshot, "crash": _crash}

if __name__ == "__main__":
    main()
