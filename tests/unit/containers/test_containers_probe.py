"""Whether something answers: asked of real sockets that answer in one way or another."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from podctl.backends.inpod.probe import answer


@contextmanager
def answering(with_: bytes) -> Iterator[str]:
    """HOST:PORT of a server that says this to everybody and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(with_)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join(5)


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "302 Found"])
def test_a_status_below_400_is_an_answer(status: str) -> None:
    with answering(f"HTTP/1.1 {status}\r\n\r\n".encode()) as place:
        assert answer(place, "/healthz") == ""


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "GET /healthz: HTTP/1.1 503 Service Unavailable"),
        (b"SSH-2.0-x 200\r\n", "GET /healthz: SSH-2.0-x 200"),
        (b"", "GET /healthz: no answer"),
    ],
)
def test_anything_else_is_said(said: bytes, cause: str) -> None:
    with answering(said) as place:
        assert answer(place, "/healthz") == cause


def test_without_a_path_a_connection_is_enough_and_without_a_listener_nothing_is() -> None:
    with answering(b"") as place:
        assert answer(place, "") == ""
        taken = place
    assert "refused" in answer(taken, "") and "refused" in answer(taken, "/healthz")
