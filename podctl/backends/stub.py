"""Answers for a service that the topology stubs: recorded routes, nothing else. A plain script."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    routes: dict[tuple[str, str], tuple[int, bytes]]

    def answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        status, body = self.routes.get(
            (self.command, urlsplit(self.path).path), (404, b'{"error": "this stub has no such route"}')
        )
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, format: str, *arguments: object) -> None:
        print(self.command, self.path, *arguments[1:], flush=True)


def main() -> None:
    config = json.loads(sys.argv[1])
    Handler.routes = {
        (route["method"], route["path"]): (route["status"], json.dumps(route["body"]).encode()) for route in config["routes"]
    }
    servers = [ThreadingHTTPServer((config["host"], port), Handler) for port in config["ports"]]
    for server in servers[1:]:
        import threading

        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main()
