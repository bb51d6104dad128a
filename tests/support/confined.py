"""What an agent finds in its container, and agents that go too far: the same on every backend of containers."""

from __future__ import annotations

from typing import Any

#: Run as the agent: what it finds goes into result.json.
AGENT = r"""
import json, os, resource, socket, subprocess, sys, time

def reaches(host, port, timeout=2.0):
    try:
        socket.create_connection((host, port), timeout).close()
        return "reached"
    except OSError as error:
        return f"refused: {type(error).__name__}"

def attempt(call):
    try:
        return f"done: {call()}"
    except Exception as error:
        return f"refused: {type(error).__name__}"

def forks(most):
    made = []
    try:
        for _ in range(most):
            pid = os.fork()
            if not pid:
                time.sleep(30); os._exit(0)
            made.append(pid)
        return len(made)
    except OSError:
        return len(made)
    finally:
        for pid in made:
            os.kill(pid, 9)

def fill(path, most):
    written = 0
    try:
        with open(path, "wb") as file:
            for _ in range(most):
                written += file.write(b"x" * 2**20)
            file.flush()
    except OSError:
        pass
    finally:
        try: os.unlink(path)
        except OSError: pass
    return written // 2**20

places = json.loads(os.environ["PLACES"])
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
found = {
    "reached": {name: reaches(*place) for name, place in places.items()},
    "resolves": {name: attempt(lambda: socket.gethostbyname(name)) for name in ("gateway", "kubernetes.default.svc", "example.com")},
    "uid": os.getuid(), "groups": sorted(os.getgroups()),
    "status": {name: status[name].strip() for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")},
    "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "write root": attempt(lambda: open("/etc/owned", "w").write("x")),
    "write own": attempt(lambda: open("/workspace/mine", "w").write("x")),
    "write code": attempt(lambda: open("/agent/main.py", "a").write("x")),
    "token": os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token"),
    "keeper": [path for path in ("/podctl/state", "/podctl/given", "/podctl/scripts") if os.path.exists(path)],
    "environment": sorted(name for name in os.environ if "SERVICE" in name and not name.startswith("KUBERNETES")),
    "unshare": subprocess.run(["unshare", "-r", "true"], capture_output=True).returncode,
    "mount": subprocess.run(["mount", "-t", "tmpfs", "x", "/tmp"], capture_output=True).returncode,
    "raw": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "forks": forks(300),
    "disk": fill("/workspace/big", 100),
    "core": resource.getrlimit(resource.RLIMIT_CORE)[1],
}
json.dump(found, open("result.json", "w"))
"""

TOPOLOGY = {
    "apiVersion": "podctl/v1",
    "kind": "Topology",
    "name": "walls",
    "services": {"echo": {"mode": "stubbed", "ports": [8080], "routes": [{"path": "/ping"}]}},
}
LIMITED = {
    "memory": "x = bytearray(600 * 2**20)\nfor i in range(0, len(x), 4096): x[i] = 1",
    "outlives": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(300)",
}


def assert_no_rights(agent: dict[str, Any]) -> None:
    assert agent["uid"] >= 1_000_000 and 0 not in agent["groups"]
    assert agent["status"] == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    assert agent["unshare"] != 0 and agent["mount"] != 0 and agent["raw"].startswith("refused")
    assert agent["core"] == 0


def assert_writes_into_its_workspace_alone(agent: dict[str, Any]) -> None:
    assert agent["write own"].startswith("done")
    assert agent["write root"].startswith("refused") and agent["write code"].startswith("refused")


def assert_limits_hold(found: dict[str, Any]) -> None:
    agent, greedy, outliving = found["agent"], found["memory"], found["outlives"]
    assert 20 <= agent["forks"] <= 48 and 8 <= agent["disk"] <= 16
    assert greedy.limit == "memory"
    assert outliving.code == 0 and outliving.wall_s < 20, outliving
