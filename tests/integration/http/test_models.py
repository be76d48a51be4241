import pytest

from scheduler.records import ServedModel
from scheduler.states import GpuState
from tests.support.fleet import GIB, gpu_info, register_gpu
from tests.support.http import Site, check_problem


async def test_models_have_openais_shape_and_their_limits(site: Site) -> None:
    page = (await site.client.get("/v1/models")).json()
    assert (page["object"], page["has_more"]) == ("list", False)
    (model,) = page["data"]
    assert (model["id"], model["object"], model["owned_by"]) == ("ali-vilab/i2vgen-xl", "model", "ali-vilab")
    assert isinstance(model["created"], int)
    assert model["random_weights"] is False
    assert model["limits"]["width"] == {"minimum": 256, "maximum": 1536, "multiple_of": 8}
    assert model["limits"]["num_frames"] == {"minimum": 2, "maximum": 64, "multiple_of": 1}
    assert model["limits"]["guidance_scale"]["multiple_of"] is None, "9.55 is accepted"
    assert model["limits"]["priority"] == {"minimum": 0.01, "maximum": 100, "multiple_of": None}
    assert model["prompt_max_chars"] == 4000
    assert (model["image"]["formats"], model["image"]["min_side"]) == (["PNG", "JPEG", "WEBP"], 16)
    assert model["image"]["max_bytes"] == site.settings.max_image_bytes
    assert model["defaults"]["num_inference_steps"] == 50
    assert model["defaults"]["seed"] is None
    assert (model["defaults"]["preset"], model["defaults"]["allow_int8"]) == ("standard", False)
    assert [preset["name"] for preset in model["presets"]] == ["standard", "fast", "high"]
    assert model["held"] is None


async def test_the_tiny_model_says_that_its_output_is_noise(site: Site) -> None:
    tiny = ServedModel("tiny-random-noise", "i2vgen-xl-tiny", 1, "f")
    site.scheduler.fleet.register(tiny, [])
    models = {model["id"]: model for model in (await site.client.get("/v1/models")).json()["data"]}
    assert models["tiny-random-noise"]["random_weights"] is True
    assert models["tiny-random-noise"]["owned_by"] == "reelq"


async def test_without_workers_the_list_is_empty(opened: object) -> None:
    async with opened(with_gpu=False) as site:  # type: ignore[operator]  # a fixture's partial
        assert (await site.client.get("/v1/models")).json()["data"] == []


async def test_an_estimate_is_what_the_job_would_get(site: Site) -> None:
    answer = (await site.client.post("/v1/estimates", json={"num_frames": 8, "priority": 2})).json()
    job = await site.submit(num_frames="8", priority="2")
    assert answer["fits"] is True
    assert answer["estimate"] == job["estimate"]
    assert answer["params"]["num_frames"] == 8
    (gpu,) = answer["gpus"]
    assert (gpu["gpu"], gpu["fits"], gpu["reason"], gpu["plan"]) == ("GPU-0", True, None, job["estimate"]["plan"])
    assert (answer["reason"], answer["estimate"]["plan_reason"]) == (None, job["estimate"]["plan_reason"])
    (plan,) = gpu["plans"]
    assert (plan["plan"], plan["fits"], plan["reason"]) == (gpu["plan"], True, None)
    assert plan["model_bytes"] + plan["working_bytes"] == plan["vram_bytes"] == job["estimate"]["vram_bytes"]
    assert (plan["seconds"], plan["weight"]) == (job["estimate"]["seconds"], job["estimate"]["weight"])
    assert plan["basis"]


async def test_an_estimate_has_every_plan_that_the_job_allows(site: Site) -> None:
    plans = ("fp16", "fp16-chunked", "fp16-offload", "int8")
    register_gpu(site.scheduler, "GPU-1", total_bytes=14 * GIB, plans=plans)
    body = {"width": 1024, "height": 1024, "num_frames": 32}
    for allowed, expected in ((False, plans[:3]), (True, plans)):
        answer = (await site.client.post("/v1/estimates", json=body | {"allow_int8": allowed})).json()
        found = {gpu["gpu"]: gpu for gpu in answer["gpus"]}["GPU-1"]
        assert tuple(plan["plan"] for plan in found["plans"]) == expected
        assert found["fits"] is any(plan["fits"] for plan in found["plans"])
        assert all(("GiB" in (plan["reason"] or "")) is not plan["fits"] for plan in found["plans"])
    needs = [plan["vram_bytes"] for plan in found["plans"][:3]]
    assert needs == sorted(needs, reverse=True), "each plan is leaner than the one before"


async def test_an_estimate_says_which_gpus_fit(site: Site) -> None:
    register_gpu(site.scheduler, "GPU-1", total_bytes=8 * GIB, name="small one")
    answer = (await site.client.post("/v1/estimates", json={"width": 1024, "height": 1024})).json()
    fits = {gpu["gpu"]: gpu["fits"] for gpu in answer["gpus"]}
    assert fits == {"GPU-0": True, "GPU-1": False}
    small = answer["gpus"][1]
    assert "small one" in small["reason"]
    assert "GiB" in small["reason"]
    assert answer["fits"] is True


async def test_an_estimate_of_what_fits_nowhere_is_an_answer_and_not_an_error(site: Site) -> None:
    body = {"width": 1536, "height": 1536, "num_frames": 64}
    answer = await site.client.post("/v1/estimates", json=body)
    assert answer.status_code == 200
    assert (answer.json()["fits"], answer.json()["estimate"]) == (False, None)
    (gpu,) = answer.json()["gpus"]
    assert (gpu["fits"], gpu["plan"]) == (False, None)
    assert gpu["plans"][0]["vram_bytes"] > 24 * GIB
    assert gpu["reason"] == answer.json()["reason"]
    assert "GiB" in gpu["reason"]


async def test_an_estimate_shows_the_state_of_a_gpu(site: Site) -> None:
    site.scheduler.fleet.drain("GPU-0", "fans", "me")
    (gpu,) = (await site.client.post("/v1/estimates", json={})).json()["gpus"]
    assert gpu["state"] == GpuState.DRAINING


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"width": 100}, ("width", "256")),
        ({"width": "512"}, ("width",)),
        ({"num_frames": 10**30}, ("num_frames",)),
        ({"priority": 0}, ("priority", "0.01")),
        ({"image": "x"}, ("image", "not a known field")),
        ({"model": "sora"}, ("model",)),
        ({"preset": "turbo"}, ("preset", "standard", "fast")),
        ({"allow_int8": "true"}, ("allow_int8",)),
        ({"allow_int8": 1}, ("allow_int8",)),
        ({"negative_prompt": "\x00"}, ("negative_prompt", "NUL")),
        ([], ("body",)),
        (None, ("body",)),
    ],
)
async def test_bad_estimates_are_refused(site: Site, body: object, words: tuple[str, ...]) -> None:
    check_problem(await site.client.post("/v1/estimates", json=body), 422, "invalid_parameter", *words)


async def test_estimates_of_a_model_that_no_gpu_serves_any_more(site: Site) -> None:
    site.scheduler.fleet.register(ServedModel("old", "i2vgen-xl", 1, "f"), [])
    answer = await site.client.post("/v1/estimates", json={"model": "old"})
    check_problem(answer, 503, "no_model", "no GPU serves old")
    assert int(answer.headers["retry-after"]) >= 1


async def test_the_first_gpu_of_another_model_is_a_choice(site: Site) -> None:
    other = ServedModel("tiny-random-noise", "i2vgen-xl-tiny", 1, "f")
    site.scheduler.fleet.register(other, [gpu_info("GPU-2", model=other.id)])
    answer = (await site.client.post("/v1/estimates", json={"model": "ali-vilab/i2vgen-xl"})).json()
    assert [gpu["gpu"] for gpu in answer["gpus"]] == ["GPU-0"]
