"""The limit: a FastAPI application with the same routes, which reads what is sent and answers with the same bytes.

With `--images` it also decodes the image of a form and writes it anew, in a thread, as the front end does: the limit of
whoever does that.
"""

import argparse
import json
import socket
from io import BytesIO
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, Form, Header, Response, UploadFile
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from app.images import decoded

_JSON = "application/json"
_MAX_PIXELS = 40_000_000


class Body(BaseModel):
    """A job as JSON."""

    prompt: str
    image: str


def application(answers: dict[str, str], *, images: bool = False) -> FastAPI:
    """Return the application; `answers` are whole bodies of a `queued` and of a `succeeded` job, and an `etag`."""
    app = FastAPI()
    queued, succeeded = answers["queued"].encode(), answers["succeeded"].encode()
    etag = {"ETag": answers["etag"]}

    @app.post("/v1/jobs")
    async def submit(image: Annotated[UploadFile, File()], prompt: Annotated[str, Form()]) -> Response:
        content = await image.read()
        if images:
            await run_in_threadpool(_written_anew, content)
        return _accepted(prompt)

    @app.post("/v1/json/jobs")
    async def submit_json(body: Body) -> Response:
        return _accepted(body.prompt)

    def _accepted(prompt: str) -> Response:
        assert prompt
        return Response(queued, 202, {**etag, "Location": "/v1/jobs/1"}, media_type=_JSON)

    @app.get("/v1/jobs/{job_id}")
    async def get(job_id: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
        if if_none_match is not None:
            return Response(status_code=304, headers=etag)
        return Response(succeeded if job_id == "succeeded" else queued, headers=etag, media_type=_JSON)

    return app


def _written_anew(content: bytes) -> None:
    with decoded(BytesIO(content), max_pixels=_MAX_PIXELS) as picture:
        picture.write(BytesIO())


def main() -> None:
    """Serve on loopback as the front end does, until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--images", action="store_true")
    asked = parser.parse_args()
    app = application(json.loads(asked.answers.read_text()), images=asked.images)
    config = uvicorn.Config(app, ws="none", log_config=None, access_log=False, server_header=False)
    with socket.create_server(("127.0.0.1", asked.port)) as sock:
        uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    main()
