"""What each preset would take on this installation, and what it has taken."""

from dataclasses import replace
from typing import Any

from scheduler.records import Result, ServedModel
from tests.support.fleet import GIB, register_gpu
from tests.support.http import MEASURED, SHA256, Site, check_problem

ID = "ali-vilab/i2vgen-xl"


async def presets(site: Site) -> dict[str, Any]:
    answer = await site.client.get(f"/v1/models/{ID}")
    assert answer.status_code == 200, answer.text
    return {preset["name"]: preset for preset in answer.json()["presets"]}


async def run(site: Site, seconds: float, **fields: str) -> None:
    """Run a job to its end in so many seconds, alone."""
    job = await site.submit(**fields)
    lease = site.gpu.must_claim()
    folder = f"jobs/{lease.job_id}/{lease.fence}"
    result = Result(f"{folder}/video.mp4", f"{folder}/thumbnail.jpg", 1, SHA256, 512, 512, 16, 16, 1.0)
    alone = replace(MEASURED, run_seconds=seconds, sharing=1, steps=job["params"]["num_inference_steps"])
    site.scheduler.leases.succeed(lease, result, alone)


async def test_a_model_is_the_same_alone_and_in_the_list(site: Site) -> None:
    alone = (await site.client.get(f"/v1/models/{ID}")).json()
    assert [alone] == (await site.client.get("/v1/models")).json()["data"]
    assert (await site.client.get("/v1/models/ali-vilab%2Fi2vgen-xl")).json() == alone


async def test_unknown_models(site: Site) -> None:
    for name in ("sora-2", "ali-vilab", "ali-vilab/", "%00", "x" * 300):
        check_problem(await site.client.get(f"/v1/models/{name}"), 404, "not_found", "no model")


async def test_the_presets_differ_in_steps_and_speed(site: Site) -> None:
    found = await presets(site)
    assert set(found) == {"standard", "fast", "high"}
    steps = {name: preset["defaults"]["num_inference_steps"] for name, preset in found.items()}
    assert steps == {"standard": 50, "fast": 50, "high": 80}
    need = {name: preset["estimate"]["seconds"] for name, preset in found.items()}
    assert need["fast"] < need["standard"] < need["high"]
    assert all(preset["description"].endswith(".") for preset in found.values())
    assert all(preset["measured"] is None for preset in found.values())


async def test_an_estimate_is_what_a_job_with_that_preset_gets(site: Site) -> None:
    for name, preset in (await presets(site)).items():
        job = await site.submit(preset=name)
        promised = preset["estimate"]
        assert job["params"]["num_inference_steps"] == preset["defaults"]["num_inference_steps"]
        for key in ("seconds", "vram_bytes", "plan"):
            assert promised[key] == job["estimate"][key]
        assert (promised["gpu_kind"], promised["cost"]) == ("NVIDIA GeForce RTX 3090", None)


async def test_the_estimate_is_for_the_gpu_that_would_be_chosen(site: Site) -> None:
    register_gpu(site.scheduler, "GPU-1", kind="NVIDIA H100 80GB HBM3", total_bytes=80 * GIB)
    assert {one["estimate"]["gpu_kind"] for one in (await presets(site)).values()} == {"NVIDIA H100 80GB HBM3"}


async def test_what_runs_took_is_shown_with_their_preset(site: Site) -> None:
    for seconds in (12.0, 10.0, 40.0):
        await run(site, seconds)
    await run(site, 20.0, preset="high")
    await run(site, 99.0, width="768")  # not what the preset does by itself
    found = await presets(site)
    assert found["standard"]["measured"] == {
        "jobs": 3,
        "shape": "512x512x16",
        "steps": 50,
        "seconds_p50": 12.0,
        "vram_peak_bytes": 7 * GIB,
    }
    assert (found["high"]["measured"]["jobs"], found["high"]["measured"]["steps"]) == (1, 80)
    assert found["fast"]["measured"] is None


async def test_a_model_that_no_gpu_runs_has_neither(site: Site) -> None:
    site.scheduler.fleet.register(ServedModel("old", "i2vgen-xl", 1, "f"), [])
    old = (await site.client.get("/v1/models/old")).json()
    assert {(one["estimate"], one["measured"]) for one in old["presets"]} == {(None, None)}


async def test_so_has_one_whose_defaults_fit_nowhere(opened: Any) -> None:
    async with opened(with_gpu=False) as site:
        register_gpu(site.scheduler, total_bytes=8 * GIB)
        assert {one["estimate"] is None for one in (await presets(site)).values()} == {True}
        assert (await site.client.post("/v1/admin/models/ali-vilab/i2vgen-xl/hold", json={"reason": "x"})).json()[
            "held"
        ]
