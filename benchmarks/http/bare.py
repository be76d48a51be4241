"""The limit: a FastAPI application with the same routes, which reads what is sent and answers with the same bytes."""

import json
import socket
import sys
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, Form, Header, Response, UploadFile
from pydantic import BaseModel

_JSON = "application/json"


class Body(BaseModel):
    """A job as JSON."""

    prompt: str
    image: str


def application(answers: dict[str, str]) -> FastAPI:
    """Return the application; `answers` are whole bodies of a `queued` and of a `succeeded` job, and an `etag`."""
    app = FastAPI()
    queued, succeeded = answers["queued"].encode(), answers["succeeded"].encode()
    etag = {"ETag": answers["etag"]}

    @app.post("/v1/jobs")
    async def submit(image: Annotated[UploadFile, File()], prompt: Annotated[str, Form()]) -> Response:
        await image.read()
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


def main(port: int, answers: Path) -> None:
    """Serve on loopback as the front end does, until SIGTERM."""
    config = uvicorn.Config(
        application(json.loads(answers.read_text())), ws="none", log_config=None, access_log=False, server_header=False
    )
    with socket.create_server(("127.0.0.1", port)) as sock:
        uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
