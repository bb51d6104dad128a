"""An MCP server on standard input and output, and an agent that calls it, with nothing but the standard library."""

from __future__ import annotations

#: Has ``word`` and ``shut``; each says how often this process was called.
SERVER = r"""
import json, sys
calls = 0
schema = {"type": "object"}
for line in sys.stdin:
    asked = json.loads(line)
    if asked["method"] == "initialize":
        said = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "plain", "version": "1"}}
    elif asked["method"] == "tools/list":
        said = {"tools": [{"name": name, "description": name, "inputSchema": schema} for name in ("word", "shut")]}
    elif asked["method"] == "tools/call":
        calls += 1
        said = {"content": [{"type": "text", "text": f"{asked['params']['name']} {calls}"}]}
    else:
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": said}), flush=True)
"""

AGENT = r"""
import json, os, urllib.request
session = {}
def ask(method, params=None, id=1):
    body = {"jsonrpc": "2.0", "method": method, "params": params or {}} | ({} if id is None else {"id": id})
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **session}
    with urllib.request.urlopen(urllib.request.Request(os.environ["DESK_URL"], json.dumps(body).encode(), headers)) as answer:
        if "Mcp-Session-Id" in answer.headers:
            session["Mcp-Session-Id"] = answer.headers["Mcp-Session-Id"]
        return json.loads(answer.read() or b"{}").get("result")
ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}})
ask("notifications/initialized", id=None)
said = {"listed": [tool["name"] for tool in ask("tools/list")["tools"]]}
for name in ("word", "word", "shut"):
    said.setdefault("called", []).append(ask("tools/call", {"name": name, "arguments": {}})["content"][0]["text"])
json.dump({"status": "done", "output": said}, open(os.environ["PODCTL_RESULT"], "w"))
"""
SAID = {
    "listed": ["word"],
    "called": ["word 1", "word 2", "podctl_human_only: only people may use desk.shut (unlisted)"],
}
