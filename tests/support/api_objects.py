"""Objects as the API answers them."""

from typing import Any

JOB_ID = "job_01jd0000000000000000000000"


def make_job(status: str = "queued", *, sha256: str = "0" * 64, video_bytes: int = 0, **changes: Any) -> dict[str, Any]:
    """A job of 10 steps: running ones are at step 4, ended ones have what ended them."""
    fraction, step = {"running": (0.4, 4), "succeeded": (1.0, 10)}.get(status, (0.0, 0))
    video = {
        "url": f"http://127.0.0.1/v1/jobs/{JOB_ID}/video",
        "thumbnail_url": f"http://127.0.0.1/v1/jobs/{JOB_ID}/thumbnail",
        "preview_url": f"http://127.0.0.1/v1/jobs/{JOB_ID}/preview",
        "bytes": video_bytes,
        "sha256": sha256,
        "num_frames": 16,
        "fps": 8,
        "duration_seconds": 2.0,
    }
    measured = {
        "vram_peak_bytes": 2**30,
        "working_peak_bytes": 2**28,
        "run_seconds": 3.5,
        "queue_seconds": 0.1,
        "stage_seconds": {"encoding": 0.2, "denoising": 2.5, "decoding": 0.8},
        "steps": 10,
        "step_seconds": 0.25,
        "sharing": 1,
        "energy_joules": 21_400.0,
        "cost": None,
    }
    queue = {
        "position": 2,
        "position_exact": True,
        "eta_seconds": 41.2,
        "wait_reason": "all GPUs that fit are busy with 1 running",
        "wait": {"code": "busy", "details": {"running": 1, "ahead": 1}, "clears_when": "jobs that run have ended"},
        "expected_start": {"p50": "2026-01-01T00:00:41.200000Z", "p90": "2026-01-01T00:01:05.000000Z"},
        "expected_finish": {"p50": "2026-01-01T00:00:45.200000Z", "p90": "2026-01-01T00:01:10.000000Z"},
    }
    return {
        "id": JOB_ID,
        "object": "job",
        "status": status,
        "stage": "denoising" if status == "running" else None,
        "progress": {"fraction": fraction, "step": step, "steps": 10},
        "model": "tiny-random-noise",
        "prompt": "waves",
        "params": {
            "width": 256,
            "height": 256,
            "num_frames": 16,
            "num_inference_steps": 10,
            "guidance_scale": 9.0,
            "target_fps": 8,
            "seed": 7,
            "negative_prompt": None,
            "preset": "standard",
            "allow_int8": False,
        },
        "priority": 1.0,
        "metadata": {},
        "estimate": {
            "vram_bytes": 2**30,
            "seconds": 4.0,
            "weight": 4.0,
            "plan": "fp32",
            "plan_reason": "fp32 is the fastest plan, and fits 1 of 1 GPU",
        },
        "queue": queue if status == "queued" else None,
        "attempts": 0 if status == "queued" else 1,
        "max_attempts": 3,
        "cancel_requested": False,
        "gpu": None if status == "queued" else "CPU-host",
        "resumed_from_step": None,
        "checkpoint_step": None,
        "notices": [],
        "measured": measured if status == "succeeded" else None,
        "error": {"code": "out_of_memory", "message": "3 attempts ran out of memory"} if status == "failed" else None,
        "video": video if status == "succeeded" else None,
        "not_before": None,
        "window": None,
        "webhook_url": None,
        "webhook_events": [],
        "result_ttl_seconds": None,
        "created_at": "2026-01-01T00:00:00.000000Z",
        "started_at": None if status == "queued" else "2026-01-01T00:00:01.000000Z",
        "finished_at": "2026-01-01T00:00:05.000000Z" if status in ("succeeded", "failed", "cancelled") else None,
        **changes,
    }


def make_gpu(**changes: Any) -> dict[str, Any]:
    """An H100 that runs one job."""
    gib = 2**30
    return {
        "id": "GPU-3f0c1b5e-8a52-4d9e-9c54-0d5e5a3d8b11",
        "object": "gpu",
        "host": "node-1",
        "name": "NVIDIA H100 80GB HBM3",
        "kind": "NVIDIA H100 80GB HBM3",
        "model": "ali-vilab/i2vgen-xl",
        "plans": ["fp16", "fp16-chunked"],
        "state": "active",
        "reason": None,
        "actor": None,
        "state_changed_at": "2026-01-01T00:00:00.000000Z",
        "online": True,
        "seen_at": "2026-01-01T00:00:00.000000Z",
        "memory": {
            "total_bytes": 80 * gib,
            "headroom_bytes": gib,
            "used_bytes": 20 * gib,
            "free_bytes": 60 * gib,
            "reserved_bytes": 40 * gib,
            "offered_bytes": 39 * gib,
            "problem": None,
        },
        "utilization_percent": 97.0,
        "temperature_celsius": 61.0,
        "workers": [
            {
                "id": "worker_1",
                "pid": 4711,
                "model": "ali-vilab/i2vgen-xl",
                "plan": "fp16",
                "resident_bytes": 6 * gib,
                "ready": True,
            }
        ],
        "leases": [
            {
                "job_id": JOB_ID,
                "worker_id": "worker_1",
                "lane": 0,
                "reserved_bytes": 34 * gib,
                "expires_at": "2026-01-01T00:00:10.000000Z",
                "stage": "denoising",
                "progress": {"fraction": 0.42, "step": 21, "steps": 50},
            }
        ],
        **changes,
    }


def make_queue(**changes: Any) -> dict[str, Any]:
    """A queue with jobs of two classes and a GPU that is kept for one of them."""
    gib = 2**30
    kept = {
        "gpu": make_gpu()["id"],
        "job": JOB_ID,
        "reserved_bytes": 34 * gib,
        "start_at": "2026-01-01T00:05:00.000000Z",
        "made_at": "2026-01-01T00:00:00.000000Z",
    }
    model = "ali-vilab/i2vgen-xl"
    return {
        "object": "queue",
        "paused": False,
        "pause_reason": None,
        "paused_at": None,
        "paused_by": None,
        "ready": 12,
        "deferred": 3,
        "running": 2,
        "oldest_wait_seconds": 250.0,
        "classes": [
            {"model": model, "plan": "fp16", "up_to_bytes": 8 * gib, "jobs": 11},
            {"model": model, "plan": "fp16", "up_to_bytes": 34 * gib, "jobs": 1},
        ],
        "reservations": [kept],
        **changes,
    }


def make_model(**changes: Any) -> dict[str, Any]:
    """The real model, with a limit and some defaults; one preset has been measured."""
    need = {"gpu_kind": "H100", "plan": "fp16", "seconds": 71.0, "vram_bytes": 9 * 2**30, "cost": None}
    took = {"jobs": 12, "shape": "512x512x16", "steps": 50, "seconds_p50": 68.0, "vram_peak_bytes": 8 * 2**30}
    steps = {"num_inference_steps": 50}
    return {
        "id": "ali-vilab/i2vgen-xl",
        "object": "model",
        "created": 0,
        "owned_by": "ali-vilab",
        "architecture": "i2vgen-xl",
        "random_weights": False,
        "limits": {"width": {"minimum": 256, "maximum": 1280, "multiple_of": 64}},
        "defaults": {"width": 512, "guidance_scale": 9.0, "allow_int8": False, "seed": None},
        "presets": [
            {
                "name": "standard",
                "description": "Every step in full.",
                "defaults": steps,
                "estimate": need,
                "measured": took,
            },
            {
                "name": "fast",
                "description": "An approximation.",
                "defaults": steps,
                "estimate": None,
                "measured": None,
            },
        ],
        "held": None,
        **changes,
    }


def make_estimate(**changes: Any) -> dict[str, Any]:
    """An estimate of a job that fits a large GPU and not a small one."""
    plan = {
        "plan": "fp16",
        "fits": True,
        "reason": None,
        "capacity_bytes": 70 * 2**30,
        "model_bytes": 6 * 2**30,
        "working_bytes": 3 * 2**30,
        "vram_bytes": 9 * 2**30,
        "seconds": 71.0,
        "weight": 7.9,
        "basis": "measured 12 times here",
    }
    lean = plan | {"plan": "fp16-chunked", "vram_bytes": 7 * 2**30, "seconds": 80.0, "basis": "data sheet"}
    large = {"gpu": "GPU-1", "name": "H100", "state": "active", "online": True, "fits": True, "reason": None}
    too_large = {"fits": False, "reason": "needs 20.0 GiB"}
    return {
        "object": "estimate",
        "model": "ali-vilab/i2vgen-xl",
        "params": make_job()["params"],
        "priority": 1.0,
        "fits": True,
        "estimate": {
            "vram_bytes": 9 * 2**30,
            "seconds": 71.0,
            "weight": 7.9,
            "plan": "fp16",
            "plan_reason": "fp16 is the fastest plan, and fits 1 of 2 GPUs",
        },
        "reason": None,
        "gpus": [
            large | {"plan": "fp16", "plans": [plan, lean]},
            large
            | too_large
            | {"gpu": "GPU-2", "name": "T4", "online": False, "plan": None, "plans": [plan | too_large]},
        ],
        **changes,
    }


def make_account(**changes: Any) -> dict[str, Any]:
    """A tenant with some limits, and a key that is not an operator's."""
    return {
        "object": "account",
        "tenant": "acme",
        "key": {"id": "key_01jd", "name": "demo", "scopes": ["read", "submit"]},
        "limits": {
            "share": 2.0,
            "max_queued": 100,
            "max_running": None,
            "max_priority": 10.0,
            "submits_per_minute": 60,
            "requests_per_minute": None,
        },
        "usage": {"queued": 7, "running": 1},
        **changes,
    }


def make_page(*items: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A list as the API answers it."""
    return {"object": "list", "data": list(items), "has_more": False, "next_cursor": None, **changes}
