"""A small https server of our own, on the loopback, that answers as a test tells it to."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

Reply = Callable[["Exchange"], None]
NAME = "images.example"  # what the certificate is for


@dataclass
class Exchange:
    """A request as it came, and the connection to answer it on."""

    path: str
    headers: dict[str, str]
    body: bytes
    connection: ssl.SSLSocket | socket.socket
    stopping: threading.Event

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a whole answer; `_` in the name of a header stands for `-`."""
        head = {"Content-Length": str(len(body)), "Connection": "close"}
        head |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        self.connection.sendall("\r\n".join(lines).encode() + body)


@dataclass
class HttpsServer:
    """A running server; `replies` tells by path what it does, and `seen` what it was asked."""

    port: int
    replies: dict[str, Reply] = field(default_factory=dict)
    seen: list[Exchange] = field(default_factory=list)
    connections: int = 0

    def url(self, path: str = "/", host: str = NAME) -> str:
        """Return a URL that leads here once the host means the loopback."""
        return f"https://{host}:{self.port}{path}"


def make_certificate(folder: Path, name: str = NAME, *, days: int = 2) -> tuple[Path, Path]:
    """Make a certificate for `name`, signed by itself, with openssl; returns its file and its key's.

    It is good for so many days from now on; where they are less than none, it has expired.
    """
    certificate, key, request = (folder / f"{name}{suffix}" for suffix in (".pem", ".key", ".csr"))
    ask = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    ask += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", request]
    sign = ["openssl", "x509", "-req", "-in", request, "-signkey", key, "-copy_extensions", "copyall"]
    sign += ["-days", str(days), "-out", certificate]
    for command in (ask, sign):
        subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@contextmanager
def serving(certificate: tuple[Path, Path] | None = None) -> Iterator[HttpsServer]:
    """Run a server on a free port, over TLS if there is a certificate; each connection has a thread."""
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    listener = socket.create_server(("127.0.0.1", 0))
    server, stopping = HttpsServer(listener.getsockname()[1]), threading.Event()
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed
                return
            server.connections += 1
            threads.append(threading.Thread(target=_serve, args=(server, connection, context, stopping)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield server
    finally:
        stopping.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for thread in threads:
            thread.join()


def _serve(
    server: HttpsServer, connection: socket.socket, context: ssl.SSLContext | None, stopping: threading.Event
) -> None:
    connection.settimeout(10)
    try:
        with context.wrap_socket(connection, server_side=True) if context else connection as secure:
            exchange = _read(secure, stopping)
            server.seen.append(exchange)
            server.replies.get(exchange.path, lambda one: one.answer(404))(exchange)
    except OSError:  # the client has left, which is often what the test is about
        pass
    finally:
        connection.close()


def _read(connection: ssl.SSLSocket | socket.socket, stopping: threading.Event) -> Exchange:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65_536)
        if not chunk:
            raise ConnectionResetError
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65_536)
    return Exchange(first.split(" ")[1], headers, body, connection, stopping)
