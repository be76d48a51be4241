"""The report of a run: Markdown tables, what was not run, and the targets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.rows import RECIPE
from benchmarks.tables import table

_GB = 1e9


def store(folder: Path, results: dict[str, Any]) -> None:
    """Write gpu.json and gpu.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "gpu.md").write_text(markdown(results))


def markdown(results: dict[str, Any]) -> str:
    """Return the whole report of what there is so far."""
    facts = ", ".join(f"{name} {value}" for name, value in results["environment"].items() if value is not None)
    parts = [
        "# The GPU worker, measured",
        f"{results['measured_at']}; {facts}.",
        f"Medians of {results['options']['repeats']} repeats, in FP32 one; they compare within one run. GB: 10^9 B.",
    ]
    if not results["on_gpu"]:
        parts.append(
            "**No GPU was to be had for this run.** The measured figures below show that the harness works: they are "
            "those of the tiny model on a CPU, with rows an eighth as wide and high, a quarter as many frames and half "
            "the steps, and say nothing about a GPU. Only the section of computed peaks is about the published size."
        )
    sections = (_not_run, _targets, _computed, _service, _plans, _batches, _peer, _caps)
    parts += [text for section in sections if (text := section(results))]
    return "\n\n".join(parts) + "\n"


def _not_run(results: dict[str, Any]) -> str:
    rows = [[each["what"], each["why"]] for each in results["not_run"]]
    return _section("What was not run", "", ["what", "why"], rows)


def _targets(results: dict[str, Any]) -> str:
    rows = [[one["target"], one["measured"], one["verdict"]] for one in results.get("targets", ())]
    return _section("Targets, on an H100", "", ["target", "measured", ""], rows)


def _computed(results: dict[str, Any]) -> str:
    rows = [
        [
            shape,
            plan,
            _gigabytes(figures["denoise_bytes"]),
            _gigabytes(figures["decode_bytes"]),
            _gigabytes(figures["peak_bytes"]),
            f"{figures['peak_bytes'] / plans['fp16']['peak_bytes'] - 1:+.0%}",
        ]
        for shape, plans in (results.get("computed") or {}).items()
        for plan, figures in plans.items()
    ]
    return _section(
        "Peaks at the published size, computed, not measured",
        "Bytes of all tensors that live at once, counted on torch's meta device, and the FP16 weights that the plan "
        "has on the device then. The device context, kernels' workspaces and what the allocator loses come on top.",
        ["shape", "plan", "denoising GB", "decoding GB", "peak GB", "to fp16"],
        rows,
    )


def _service(results: dict[str, Any]) -> str:
    one = results.get("service")
    if not one:
        return ""
    rows = [
        ["cold load: from starting the service to a ready worker, s", f"{one['cold_load_seconds']:.1f}"],
        [f"mean run of {one['jobs']} jobs, weights loaded, s", f"{one['mean_run_seconds']:.2f}"],
        ["that run as predicted when it was submitted, s", f"{one['predicted_seconds']:.2f}"],
        ["seconds a video, back to back", f"{one['mean_seconds_back_to_back']:.2f}"],
        ["videos an hour", f"{one['videos_per_hour']:,.0f}"],
        ["gap between jobs, s", f"{one['gap_seconds']:.4f}"],
        ["gap, share of run time", f"{one['gap_share']:.2%}"],
        [f"saving {one['checkpoints']} checkpoints, s", f"{one['checkpoint_seconds']:.3f}"],
        ["checkpoints, share of run time", f"{one['checkpoint_share']:.2%}"],
    ]
    return _section(
        "The recipe through the service",
        f"{RECIPE.name} as jobs in the queue, guidance 9, 8 frames a second, plan {one['plan']}; a checkpoint every "
        "second, ten times as often as by default. A run ends when the video is published. The weights' files are in "
        "the page cache at the cold load.",
        ["figure", ""],
        rows,
    )


def _plans(results: dict[str, Any]) -> str:
    rows = [
        [
            plan,
            name,
            one["shape"],
            _gigabytes(one["predicted_peak_bytes"]),
            _gigabytes(one["peak_bytes"]),
            f"{one['predicted_step_seconds']:.3f}",
            f"{one['step_seconds']:.3f}",
            "" if one["matmul_share"] is None else f"{one['matmul_share']:.0%}",
            f"{one['encode_seconds']:.2f}",
            f"{one['decode_seconds']:.2f}",
            f"{one['job_seconds']:.1f}",
            f"{one['jobs_per_hour']:,.0f}",
        ]
        for plan, found in (results.get("plans") or {}).items()
        for name, one in found.items()
    ]
    rates = ", ".join(
        f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in (results.get("matmul_flops") or {}).items() if rate
    )
    head = [
        "plan", "row", "shape", "GB predicted", "measured", "s/step predicted", "measured", "of matmul rate",
        "encode s", "decode s", "job s", "jobs/h",
    ]  # fmt: skip
    return _section(
        "Plans",
        "Each job alone, a few of its steps; a whole job's seconds follow from them. Peaks are the process's; "
        f"predictions are the data sheet's, before anything was learned. Matrix product: {rates or 'not measured'}.",
        head,
        rows,
    )


def _batches(results: dict[str, Any]) -> str:
    rows = [
        [name, jobs, f"{one['pass_seconds']:.3f}", f"{one['gain']:.2f}", _gigabytes(one["peak_bytes"])]
        for name, found in (results.get("batches") or {}).items()
        for jobs, one in (found or {}).items()
    ]
    head = ["row", "jobs", "s/pass", "steps/s over one job's", "peak GB"]
    return _section("Jobs that share a forward pass", "", head, rows)


def _peer(results: dict[str, Any]) -> str:
    ours = (results.get("plans") or {}).get("fp16", {}) if results["on_gpu"] else {}
    rows = [
        [
            name,
            row,
            f"{one['step_seconds']:.3f}",
            f"{one['fixed_seconds']:.2f}",
            f"{one['job_seconds']:.1f}",
            f"{one['jobs_per_hour']:,.0f}",
            "" if row not in ours else f"{ours[row]['jobs_per_hour'] / one['jobs_per_hour']:.2f}",
            _gigabytes(one["reserved_bytes"]),
        ]
        for name, found in (results.get("peer") or {}).items()
        for row, one in found.items()
    ]
    return _section(
        "The peer: the stock pipeline of diffusers",
        "One job at a time in this process, the same weights and work; by runs of 2 and of 6 steps.",
        ["precision", "row", "s/step", "fixed s", "job s", "jobs/h", "ours over it", "reserved GB"],
        rows,
    )


def _caps(results: dict[str, Any]) -> str:
    rows = [
        [
            row,
            one.get("plan", ""),
            _gigabytes(one.get("predicted_bytes")),
            {True: "runs", False: "FAILS", None: ""}[one.get("runs")],
            one.get("smallest", {}).get("plan", ""),
            _gigabytes(one.get("smallest", {}).get("cap_bytes")),
        ]
        for row, one in (results.get("caps") or {}).items()
    ]
    return _section(
        "Under a cap",
        "24 GB for the process, its context included, with the fastest plan that is predicted to fit; and the smallest "
        "cap under which the leanest plan still runs, to 128 MiB.",
        ["row", "plan", "predicted GB", "under 24 GB", "leanest plan", "smallest cap GB"],
        rows,
    )


def _section(title: str, text: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A titled table; nothing where there are no rows."""
    return "\n\n".join(part for part in (f"## {title}", text, table(head, rows)) if part) if rows else ""


def _gigabytes(size_bytes: int | None) -> str:
    return "" if size_bytes is None else f"{size_bytes / _GB:.2f}"
