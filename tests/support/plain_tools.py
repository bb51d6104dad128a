"""MCP servers on standard input and output and over HTTP, and an agent that calls them, with nothing but the standard library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from project import Project, make_project, ticket

#: Has ``word`` and ``shut``; each says how often this process was called.
_SAYS = r"""
import json, os, sys
calls = 0
schema = {"type": "object"}
def answer(asked):
    global calls
    if asked["method"] == "initialize":
        return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "plain", "version": "1"}}
    if asked["method"] == "tools/list":
        return {"tools": [{"name": name, "description": name, "inputSchema": schema} for name in ("word", "shut")]}
    if asked["method"] == "tools/call":
        calls += 1
        return {"content": [{"type": "text", "text": f"{asked['params']['name']} {calls}"}]}
"""
SERVER = (
    _SAYS
    + r"""
for line in sys.stdin:
    asked = json.loads(line)
    if (said := answer(asked)) is not None:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": said}), flush=True)
"""
)
#: The same over streamable HTTP, at the host that its environment names; it answers in streams of events.
WEB_SERVER = (
    _SAYS
    + r"""
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = answer(asked)
        self.send_response(202 if said is None else 200)
        self.send_header("mcp-session-id", "only")
        if said is not None:
            self.send_header("content-type", "text/event-stream")
        self.end_headers()
        if said is not None:
            told = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": said})
            self.wfile.write(f"event: message\ndata: {told}\n\n".encode())
    def do_DELETE(self):
        self.send_response(204)
        self.end_headers()
    def log_message(self, *arguments):
        pass
HTTPServer((os.environ.get("HOST", "0.0.0.0"), 8080), Handler).serve_forever()
"""
)

#: Its ticket's text says which tools of which servers it calls, with what.
AGENT = r"""
import json, os, urllib.request
said = {}
for server, calls in json.loads(json.load(open(os.environ["PODCTL_TICKET"]))["text"]).items():
    session = {}
    def ask(method, params=None, id=1):
        body = {"jsonrpc": "2.0", "method": method, "params": params or {}} | ({} if id is None else {"id": id})
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **session}
        request = urllib.request.Request(os.environ[f"{server.upper()}_URL"], json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            if "Mcp-Session-Id" in answer.headers:
                session["Mcp-Session-Id"] = answer.headers["Mcp-Session-Id"]
            return json.loads(answer.read() or b"{}").get("result")
    ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}})
    ask("notifications/initialized", id=None)
    listed = sorted(tool["name"] for tool in ask("tools/list")["tools"])
    results = [ask("tools/call", {"name": tool, "arguments": arguments}) for tool, arguments in calls]
    said[server] = {"listed": listed, "called": [result["content"][0]["text"] for result in results]}
json.dump({"status": "done", "output": said}, open(os.environ["PODCTL_RESULT"], "w"))
"""
CALLS = [["word", {}], ["word", {}], ["shut", {}]]


def said_by(server: str) -> dict[str, list[str]]:
    """What an agent is told that makes `CALLS`, where the boundary opens ``word``."""
    refused = f"podctl_human_only: only people may use {server}.shut (unlisted)"
    return {"listed": ["word"], "called": ["word 1", "word 2", refused]}


def with_servers(root: Path, services: dict[str, Any], tools: dict[str, Any], calls: dict[str, Any]) -> Project:
    """A project of two tickets and nothing but tool servers; ``service`` has `SERVER` as desk.py and `WEB_SERVER` as web.py."""
    scenario = {
        "run": {"pods": 1},
        "checks": [{"kind": "output", "name": "o", "path": "status", "equals": "done"}],
        "gate": {"boundary_violations": None},
    }
    tickets = [ticket(name, json.dumps(calls)) for name in ("1", "2")]
    project = make_project(root, agent=AGENT, tickets=tickets, scenario=scenario)
    (root / "service" / "desk.py").write_text(SERVER)
    (root / "service" / "web.py").write_text(WEB_SERVER)
    header = {"apiVersion": "podctl/v1", "name": "tools"}
    (root / "topology.yaml").write_text(yaml.safe_dump({**header, "kind": "Topology", "services": services}))
    (root / "boundary.yaml").write_text(yaml.safe_dump({**header, "kind": "Boundary", "tools": tools}))
    return project


def lose_an_answer(project: Project, server: str) -> tuple[str, ...]:
    """Arguments of a chaos campaign in which the answer of the server's second call is lost; the agent is told `LOST`."""
    fault = {"kind": "errors", "where": [server], "calls": [2], "effect": "after", "statuses": [503], "tool_errors": ["result"]}
    chaos = {"apiVersion": "podctl/v1", "kind": "Chaos", "name": "c", "faults": {"lost": fault}}
    (project.root / "chaos.yaml").write_text(yaml.safe_dump(chaos))
    return ("chaos", "scenario.yaml", "--file", "chaos.yaml", "-q")


LOST = "Error executing tool {}: 503 Service Unavailable"


def outputs(project: Project) -> dict[str, Any]:
    """Attempt -> what its agent left."""
    run = project.run()
    directory = project.store / "runs" / run.info.id / "attempts"
    return {one.id: json.loads((directory / one.id / "result.json").read_text())["output"] for one in run.attempts}


STDIO = {"protocol": "mcp", "mcp": {"transport": "stdio"}, "command": ["${python}", "-B", "desk.py"], "directory": "service"}
HTTP = {"protocol": "mcp", "command": ["${python}", "-B", "web.py"], "directory": "service"}
