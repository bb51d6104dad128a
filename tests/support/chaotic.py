"""Agents that meet faults: one that copes with them, and one that gives up, or asks again what must not be asked twice."""

from __future__ import annotations

#: Adds an amount to the ledger by the service, then labels the item. ``CAREFUL`` decides how.
AGENT = r"""
import json, os, time, urllib.error, urllib.request
import psycopg

careful = os.environ["CAREFUL"] == "yes"
base = os.environ["COUNTER_URL"]
ticket = json.load(open(os.environ["PODCTL_TICKET"]))

def call(method, path, body=None):
    request = urllib.request.Request(base + path, method=method, data=None if body is None else json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=2) as answer:
        return json.loads(answer.read())

def read(path):
    for pause in (0, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1):
        time.sleep(pause)
        try:
            return call("GET", path)
        except (OSError, ValueError):
            if not careful:
                raise
    raise SystemExit("the service does not answer")

def booked():
    return read("/ledger")["entries"]

def book():
    for _ in range(7):
        try:
            return call("POST", "/ledger", {"amount": 5})
        except (OSError, ValueError):
            # Whoever asks again without looking may book twice.
            if careful and booked():
                return
    raise SystemExit("could not book")

read("/hello")
book()
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
    database.execute("update items set label = 'done' where id = 1")
json.dump({"status": "done", "summary": ""}, open(os.environ["PODCTL_RESULT"], "w"))
"""

SERVICE = r"""
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer
import psycopg
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        entries = 0
        if self.path == "/ledger":
            with psycopg.connect(os.environ["DATABASE_URL"]) as database:
                entries = database.execute("select count(*) from ledger").fetchone()[0]
        self.answer({"entries": entries})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with psycopg.connect(os.environ["DATABASE_URL"]) as database:
            database.execute("insert into ledger (amount) values (%s)", (body["amount"],))
        self.answer({"ok": True})
    def log_message(self, *arguments):
        pass
HTTPServer((os.environ["HOST"], 8080), Handler).serve_forever()
"""

#: Books by a tool, and looks with another; what it is told of tools that fail it takes for an answer, unless it is careful.
TOOL_AGENT = r"""
import json, os, urllib.request

careful = os.environ["CAREFUL"] == "yes"
session = {}

def ask(method, params=None, id=1):
    body = {"jsonrpc": "2.0", "method": method, "params": params or {}} | ({} if id is None else {"id": id})
    headers = {"Content-Type": "application/json", **session}
    request = urllib.request.Request(os.environ["DESK_URL"], json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        if "Mcp-Session-Id" in answer.headers:
            session["Mcp-Session-Id"] = answer.headers["Mcp-Session-Id"]
        return json.loads(answer.read() or b"{}")

def call(tool, **arguments):
    answer = ask("tools/call", {"name": tool, "arguments": arguments})
    if "error" in answer or answer["result"].get("isError"):
        raise OSError(str(answer))
    return json.loads(answer["result"]["content"][0]["text"])

def entries():
    for _ in range(5):
        try:
            return call("entries")
        except (OSError, ValueError) as error:
            if not careful:
                raise ExceptionGroup("tools", [error])
    raise SystemExit("the tools do not answer")

ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}})
ask("notifications/initialized", id=None)
before = entries()
for _ in range(5):
    try:
        call("book", amount=5)
        break
    except (OSError, ValueError):
        if careful and entries() > before:
            break
else:
    raise SystemExit("could not book")
json.dump({"status": "done", "output": {}}, open(os.environ["PODCTL_RESULT"], "w"))
"""

TOOL_SERVER = r"""
import json, os, sys
import psycopg
database = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["method"] == "initialize":
        said = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "desk", "version": "1"}}
    elif asked["method"] == "tools/list":
        said = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("book", "entries")]}
    elif asked["method"] == "tools/call":
        if asked["params"]["name"] == "book":
            database.execute("insert into ledger (amount) values (%s)", (asked["params"]["arguments"]["amount"],))
        count = database.execute("select count(*) from ledger").fetchone()[0]
        said = {"content": [{"type": "text", "text": json.dumps(count)}]}
    else:
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": said}), flush=True)
"""
