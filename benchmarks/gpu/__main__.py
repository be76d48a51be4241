"""The command: measure, print a report, and store it."""

import os
import tempfile
from datetime import UTC, datetime
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from benchmarks.gpu import computed, matmul, report, service, stock
from benchmarks.gpu.caps import Capped, leanest
from benchmarks.gpu.inside import Inside, with_steps
from benchmarks.gpu.options import Options, parse
from benchmarks.gpu.rows import RECIPE, TABLE, Row
from benchmarks.gpu.session import Session
from benchmarks.gpu.subject import Subject
from benchmarks.gpu.targets import targets
from scheduler import logs
from scheduler.plans import PLANS, Precision

_NO_GPU = "there is no GPU on this machine"
_MISSING_WITHOUT_GPU = {
    "the article's rows at their own size: peaks and seconds, predicted and measured": "small rows ran instead",
    "steps as a share of a GPU's matrix product rate": "a CPU's figure stands in the table",
    "gap between jobs and cost of checkpoints, as shares of run time on a GPU": "a CPU's figures stand in the table",
    "gain of jobs that share a pass, on a GPU": "a CPU's figure stands in the table",
    "the recipe in seconds and videos an hour, against 40 to 60 s claimed on an RTX 4090": "a small one ran instead",
    "the stock pipeline beside it at full size, in FP32 and FP16": "it ran on the tiny model instead",
    "every row under a cap of 24 GB, and the smallest cap of each": "a CPU's allocator knows no cap",
    "`reelq-worker calibrate` on a GPU, and out of memory there": "tests run both on the CPU",
}


def main() -> None:
    """Measure what the command line asks for."""
    options = parse()
    _forget_settings()
    logs.configure("json", level="ERROR")
    stock.quieten()
    session = Session(options.budget_seconds, lambda results: _keep(options, results))
    with tempfile.TemporaryDirectory(prefix="reelq-bench-") as folder:
        scratch = Path(folder)
        session.say("making the model")
        subject = Subject.prepare(scratch)
        session.results |= {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "on_gpu": not subject.small,
            "environment": subject.facts(),
            "options": {
                "rows": list(options.rows),
                "plans": list(options.plans),
                "repeats": options.repeats,
                "budget_seconds": options.budget_seconds if options.budget_seconds < float("inf") else None,
            },
        }
        if subject.small:
            for what, instead in _MISSING_WITHOUT_GPU.items():
                session.left_out(what, f"{_NO_GPU}: {instead}")
        for name in options.parts:
            _PARTS[name](session, subject, options, scratch)
        subject.probe.close()
    session.results["seconds"] = round(session.seconds)
    _keep(options, session.results)
    print(report.markdown(session.results))


def _computed(session: Session, _subject: Subject, _options: Options, _scratch: Path) -> None:
    session.results["computed"] = session.measure("live bytes at the published size, computed", computed.measure)


def _service(session: Session, subject: Subject, options: Options, scratch: Path) -> None:
    what = f"the service: cold load, and {options.recipe_jobs} jobs of {RECIPE.name}"
    if len(subject.probe.devices()) > 1:
        session.left_out(what, "a service here would spread the jobs over several GPUs")
        return
    session.results["service"] = session.measure(what, partial(service.measure, subject, scratch, options.recipe_jobs))


def _matmul(session: Session, subject: Subject, _options: Options, _scratch: Path) -> None:
    session.results["matmul_flops"] = session.measure("matrix product", partial(matmul.rates, subject.device))


def _plans(session: Session, subject: Subject, options: Options, _scratch: Path) -> None:
    results = session.results.setdefault("plans", {})
    rates = session.results.get("matmul_flops") or {}
    plans = sorted(_usable(session, options), key=lambda plan: PLANS[plan].precision is Precision.FLOAT32)
    inside = session.measure("loading the model", partial(Inside, subject, plans[0]))
    if inside is None:
        return
    for plan in plans:
        rate = rates.get("float32" if PLANS[plan].precision is Precision.FLOAT32 else "float16")
        for row in _rows(options):
            sized = subject.sized(row)
            same = next((other for other in results.get(plan, {}).values() if other["shape"] == sized.shape.key), None)
            if same is not None:  # only the number of steps differs
                results[plan][row.name] = with_steps(same, sized.steps)
                continue
            found = session.measure(
                f"{plan}, {row.name}",
                partial(inside.row, plan, sized, _repeats(options, PLANS[plan].precision), rate),
            )
            if found is not None:
                results.setdefault(plan, {})[row.name] = found
    inside.close()


def _batches(session: Session, subject: Subject, options: Options, _scratch: Path) -> None:
    plan = subject.fastest_plan
    inside = session.measure("loading the model", partial(Inside, subject, plan))
    if inside is None:
        return
    session.results["batches"] = {
        row.name: session.measure(
            f"jobs sharing a pass, {plan}, {row.name}",
            partial(inside.batches, plan, subject.sized(row), options.repeats),
        )
        for row in _rows(options)[:1]
    }
    inside.close()


def _peer(session: Session, subject: Subject, options: Options, _scratch: Path) -> None:
    results = session.results.setdefault("peer", {})
    for name, precision in (("FP16", Precision.FLOAT16), ("FP32", Precision.FLOAT32)):
        pipeline = session.measure(
            f"stock pipeline, {name}: loading",
            partial(stock.Stock, subject.folder.path, subject.folder.variant, subject.device, precision),
        )
        if pipeline is None:
            continue
        for row in _rows(options):
            with stock.as_it_comes(subject.device):
                found = session.measure(
                    f"stock pipeline, {name}, {row.name}",
                    partial(pipeline.row, subject.sized(row), _repeats(options, precision)),
                )
            if found is not None:
                results.setdefault(name, {})[row.name] = found
        del pipeline
        stock.release(subject.device)


def _caps(session: Session, subject: Subject, options: Options, _scratch: Path) -> None:
    if subject.small:
        return
    plans = [plan for plan in _usable(session, options) if PLANS[plan].precision is Precision.FLOAT16]
    least = leanest(plans)
    if least is None:
        session.left_out("caps", "no FP16 plan was asked for")
        return
    inside = session.measure("loading the model", partial(Inside, subject, least))
    if inside is None:
        return
    capped = Capped(inside)
    results = session.results.setdefault("caps", {})
    for row in _rows(options):
        fits = session.measure(f"24 GB, {row.name}", partial(capped.as_predicted, row, plans))
        if fits is not None:
            results[row.name] = fits
    for row in _rows(options):
        found = session.measure(f"smallest cap, {row.name}", partial(capped.smallest, row, least))
        if found is not None:
            results.setdefault(row.name, {})["smallest"] = found
    inside.close()


def _rows(options: Options) -> list[Row]:
    return [row for row in TABLE if row.name in options.rows]


def _repeats(options: Options, precision: Precision) -> int:
    """FP32 is there to compare with, and takes many times as long: once."""
    return 1 if precision is Precision.FLOAT32 else options.repeats


def _usable(session: Session, options: Options) -> list[str]:
    """The plans that were asked for and can run here; each that cannot is noted once."""
    usable = [plan for plan in options.plans if plan != "int8" or PathFinder.find_spec("torchao")]
    noted = {each["what"] for each in session.results["not_run"]}
    for plan in sorted(set(options.plans) - set(usable)):
        if (what := f"plan {plan}") not in noted:
            session.left_out(what, "torchao is not installed")
    return usable


def _forget_settings() -> None:
    """Let no setting of an installed service reach what is measured."""
    for name in [name for name in os.environ if name.startswith("REELQ_")]:
        del os.environ[name]
    os.environ["REELQ_CONFIG"] = os.devnull


def _keep(options: Options, results: dict[str, Any]) -> None:
    results["targets"] = targets(results)
    if options.output is not None:
        report.store(options.output, results)


_PARTS = {
    "computed": _computed,
    "service": _service,
    "matmul": _matmul,
    "plans": _plans,
    "batches": _batches,
    "peer": _peer,
    "caps": _caps,
}

if __name__ == "__main__":
    main()
