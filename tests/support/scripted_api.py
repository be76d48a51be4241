"""A small HTTP server that speaks the contract from a script, for tests of what talks to the API."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VIDEO = b"\x00\x00\x00\x20ftypisom" + b"frames " * 4000


@dataclass
class Answer:
    """What to answer: a JSON body, or bytes."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Api:
    """A scripted server: answers of a route are given in turn, and the last one again and again."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.authorization: list[str | None] = []
        self.polled = threading.Event()  # a request with ?wait has come
        self.closing = threading.Event()
        self._routes: dict[tuple[str, str], list[Answer]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def on(self, method: str, path: str, *answers: Answer) -> None:
        self._routes[method, path] = list(answers)

    def job(self, *states: dict[str, Any]) -> None:
        """Make the job `job_…` go through `states`, one for each look at it, and let it be submitted and fetched."""
        path = f"/v1/jobs/{states[0]['id']}"
        self.on("POST", "/v1/jobs", Answer(states[0], 202))
        looks = [Answer(state, headers={"ETag": f'"{index}"'}) for index, state in enumerate(states)]
        self.on("GET", path, *looks)
        self.on("GET", f"{path}/video", Answer(VIDEO, headers={"Content-Type": "video/mp4"}))

    def stream(self, *states: dict[str, Any]) -> None:
        """Let the job's stream of events tell `states`, and then end."""
        events = [f"event: status\nid: {index}-0\ndata: {json.dumps(state)}\n\n" for index, state in enumerate(states)]
        answer = Answer("".join(events).encode(), headers={"Content-Type": "text/event-stream"})
        self.on("GET", f"/v1/jobs/{states[0]['id']}/events", answer)

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Return the next answer of a route; `headers` are the request's, for servers that look at them."""
        answers = self._routes.get((method, path))
        if answers is None:
            return Answer({"code": "not_found", "detail": f"no route {method} {path}", "status": 404}, 404)
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path, _, query = self.path.partition("?")
                api.requests.append((self.command, self.path, body))
                api.authorization.append(self.headers.get("Authorization"))
                answer = api.answer(self.command, path, self.headers)
                if "wait=" in query:
                    api.polled.set()
                    if self.headers.get("If-None-Match") == answer.headers.get("ETag"):
                        api.closing.wait(30)  # nothing will change
                        answer = Answer(b"", 304)
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.encoded())), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.encoded())

            do_GET = do_POST = do_PATCH = do_DELETE = handle_one  # noqa: N815  http.server's names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's name
                pass

        return Handler
