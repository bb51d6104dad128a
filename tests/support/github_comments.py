"""A loopback server that speaks GitHub's documented shape of issue comments: list with paging, create, update."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "ghs_job_token_5f1c"


@dataclass
class GitHub:
    url: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    read_only: bool = False
    broken: int = 0  # so many requests are answered with 502
    redirect: str = ""

    def comment(self, login: str, body: str) -> None:
        self.comments.append({"id": 1000 + len(self.comments), "user": {"login": login, "type": "User"}, "body": body})


@contextmanager
def github() -> Iterator[GitHub]:
    state = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, value: Any, **headers: str) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def refused(self) -> bool:
            state.asked.append(f"{self.command} {self.path}")
            state.tokens.add(self.headers.get("Authorization", ""))
            if state.broken:
                state.broken -= 1
                self.answer(502, {"message": "Server Error"})
            elif state.redirect:
                self.answer(302, {}, Location=state.redirect)
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer(401, {"message": "Bad credentials"})
            elif self.command != "GET" and state.read_only:
                self.answer(403, {"message": "Resource not accessible by integration"})
            else:
                return False
            return True

        def given(self) -> dict[str, Any]:
            read: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            return read

        def do_GET(self) -> None:
            if self.refused():
                return
            parts = urlsplit(self.path)
            assert parts.path == "/repos/acme/shop/issues/7/comments"
            asked = {name: int(values[0]) for name, values in parse_qs(parts.query).items()}
            size, page = asked.get("per_page", 30), asked.get("page", 1)
            listed = state.comments[size * (page - 1) : size * page]
            more = size * page < len(state.comments)
            link = f'<{state.url}{parts.path}?per_page={size}&page={page + 1}>; rel="next"'
            self.answer(200, listed, **({"Link": link} if more else {}))

        def do_POST(self) -> None:
            body = self.given()["body"]
            if self.refused():
                return
            state.comment("github-actions[bot]", body)
            self.answer(201, state.comments[-1])

        def do_PATCH(self) -> None:
            body = self.given()["body"]
            if self.refused():
                return
            number = re.fullmatch(r"/repos/acme/shop/issues/comments/(\d+)", self.path)
            assert number is not None
            found = next(one for one in state.comments if one["id"] == int(number[1]))
            found["body"] = body
            self.answer(200, found)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
