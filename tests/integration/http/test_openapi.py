from tests.support.http import Site


async def test_every_operation_is_documented(site: Site) -> None:
    document = (await site.client.get("/openapi.json")).json()
    operations = {
        operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()
    }
    assert set(operations) == {
        "submit_job", "get_job", "list_jobs", "cancel_job", "delete_job", "get_video", "get_thumbnail", "get_preview",
        "list_models", "estimate_job", "hold_model", "release_model", "preempt_job", "list_gpus", "get_gpu",
        "drain_gpu", "resume_gpu", "drain_gpus", "resume_gpus", "list_events", "get_queue", "pause_queue",
        "resume_queue", "patch_job", "retry_job", "follow_job", "get_model", "get_account",
        "list_webhooks", "enable_webhook", "list_webhook_deliveries", "get_webhook_delivery", "redeliver_webhook",
        "get_webhook_secret", "rotate_webhook_secret", "create_video", "list_videos",
        "retrieve_video", "download_video", "delete_video", "get_root", "get_health", "get_ready",
    }  # fmt: skip
    for name, operation in operations.items():
        assert operation["summary"], name
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (name, status)
                assert answer["content"]["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
    assert "code" in document["components"]["schemas"]["Problem"]["properties"]


async def test_a_submission_is_documented_in_both_encodings(site: Site) -> None:
    document = (await site.client.get("/openapi.json")).json()
    content = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json"}
    for one in content.values():
        assert {"image", "prompt"} <= set(one["schema"]["required"])
        assert {"num_frames", "preset", "allow_int8"} <= set(one["schema"]["properties"])


async def test_references_lead_somewhere(site: Site) -> None:
    text = (await site.client.get("/openapi.json")).text
    document = (await site.client.get("/openapi.json")).json()
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])
