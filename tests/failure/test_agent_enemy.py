"""An agent that does its worst: each attempt ends with its cause, in time, and the next one does not notice."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import threading
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from project import Project, make_project, ticket, traces_of

from podctl.backends.local import cgroups
from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult

#: What would do harm on a terminal, in a page, in a file name or to a parser, all in one line.
HOSTILE = "\x1b[2J\x1b]8;;http://evil/\x07 \x9b31m \x00 \u202e \ud800 <script>alert(1)</script> \" onload=x ' %s {0} ]]> --> \r"

AGENT = r"""
import json, os, psycopg, resource, socket, subprocess, sys, threading, time, urllib.error, urllib.request
how = json.load(open(os.environ["PODCTL_TICKET"]))["text"]
database = os.environ["DATABASE_URL"]
def finish(**output):
    json.dump({"status": "done", "summary": "", "output": output}, open("result.json", "w"))
def call(path, body, kind="application/json", base="http://gateway", **headers):
    request = urllib.request.Request(base + path, body, {"content-type": kind, **headers})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer: return answer.status
    except urllib.error.HTTPError as error: return error.code
def in_background(*statements):
    # A second process with a session of its own, which goes on when the agent has ended.
    code = "import psycopg, sys, time\nc = psycopg.connect(sys.argv[1])\n"
    code += "".join(f"c.execute({statement!r})\n" for statement in statements) + "print('held', flush=True)\ntime.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code, database], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout.readline() == b"held\n"

if how == "nothing": finish()
elif how.startswith("exit "): print("gone", file=sys.stderr); os._exit(int(how[5:]))
elif how == "ten gigabytes":
    for _ in range(40960): sys.stdout.buffer.write(b"x" * (1 << 18))
elif how == "sparse terabyte":
    finish()
    try: os.truncate("result.json", 1 << 40)
    except OSError as error: finish(errno=error.errno)
elif how == "device":
    try: os.mknod("result.json", 0o20666, os.makedev(1, 5))
    except OSError as error: finish(errno=error.errno)
elif how == "link to a device": os.symlink("/dev/zero", "result.json")
elif how == "huge integer": open("result.json", "w").write('{"status": "done", "output": {"n": ' + "9" * 100000 + "}}")
elif how == "NUL bytes": open("result.json", "wb").write(b'\x00' * 4096)
elif how == "twelve orders": open("result.json", "w").write('{"status": "done", "confidence": 1e999}')
elif how == "cpu":
    spin = "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass"
    for child in [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(6)]: child.wait()
    finish()
elif how == "fill":
    found = {}
    places = [line.split()[1] for line in open("/proc/mounts")]
    for place in sorted(set(places + ["/", "/etc", "/var", "/run", "/agent", "/home", "/root"]), key=len, reverse=True):
        written = files = 0
        while files < 100000 and written < 1 << 30:
            try:
                with open(f"{place}/fill-{files}", "wb", buffering=0) as out:
                    files += 1
                    while True: written += out.write(b"x" * (1 << 18))
            except OSError as error:
                if error.errno != 27: break  # a file may not grow any more; the next one may
        try:
            while files < 100000:
                os.close(os.open(f"{place}/more-{files}", os.O_CREAT | os.O_WRONLY)); files += 1
        except OSError: pass
        if files: found[place] = [written, files]
        for name in os.listdir(place) if files else []:
            if name.startswith(("fill-", "more-")): os.remove(f"{place}/{name}")
    finish(**found)
elif how == "hostile":
    text = json.loads(os.environ["HOSTILE"])
    raw = text.encode("utf-8", "surrogatepass")
    for stream in (sys.stdout.buffer, sys.stderr.buffer): stream.write(raw + b"\xff\xfe\x80\n"); stream.flush()
    plain = text.replace("\x00", "").encode("utf-8", "replace").decode()
    with psycopg.connect(database, autocommit=True) as db:
        db.execute("update items set label = %s where id = 1", [plain])
        try: db.execute(("select '" + plain.replace("'", "") + "' from nowhere").replace("%", "%%").encode())
        except psycopg.Error: pass
    with open("decisions.jsonl", "wb") as out:
        out.write(json.dumps({"kind": text, "options": [{"name": text}], "confidence": 0.5}).encode() + b"\n" + raw + b"\n")
    span = {"name": text, "traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "attributes": [{"key": text, "value": {"stringValue": text}}]}
    assert call("/v1/traces", json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()) in (200, 400)
    span["name"] = span["attributes"][0]["key"] = span["attributes"][0]["value"]["stringValue"] = plain
    assert call("/v1/traces", json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()) == 200
    body = {"model": "scripted-helper", "messages": [{"role": "user", "content": text}], "max_tokens": 5}
    assert call("/v1/chat/completions", json.dumps(body).encode(), authorization="Bearer " + os.environ["OPENAI_API_KEY"]) == 200
    for line in (b"/\xff\xfe%1b%5b2J<script>?q=\x9b", b"/%1b%5b2J%3Cscript%3E%9b%ff<script>alert(1)</script>?%00=\"onload=x"):
        with socket.create_connection(("counter", 8080)) as door:
            door.sendall(b"GET " + line + b" HTTP/1.1\r\nhost: x\r\nx-evil: \x9b31m<script>\xff\r\nconnection: close\r\n\r\n")
            door.settimeout(5); door.recv(4096)
    json.dump({"status": "refused", "summary": text.replace("\ud800", ""), "output": {}}, open("result.json", "w"))
elif how == "spans":
    spans = [{"name": "n", "traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1"}] * 200
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    while True: call("/v1/traces", body)
elif how == "malformed":
    answers = {call("/v1/" + path, os.urandom(size), "application/x-protobuf") for path in ("traces", "logs") for size in (1, 9, 99, 9999)}
    answers.add(call("/v1/traces", b"\x0a" * 100000, "application/x-protobuf"))
    finish(answers=sorted(answers))
elif how == "forged":
    other = "20200101-000000-ffffff.0001-1"
    resource = {"attributes": [{"key": k, "value": {"stringValue": other}} for k in ("service.name", "podctl.attempt", "gen_ai.agent.id")]}
    spans = [{"name": "forged", "traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1"}]
    headers = {"x-podctl-attempt": other, "x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"}
    call("/v1/traces", json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}).encode(), **headers)
    call("/v1/decisions", json.dumps({"kind": "x", "provenance": "observed", "actor": "podctl"}).encode(), **headers)
    body = json.dumps({"model": "scripted-helper", "messages": [{"role": "user", "content": "hi"}], "user": other}).encode()
    theirs = call("/v1/chat/completions", body, authorization="Bearer pod-" + "A" * 32, **headers)
    own = call("/v1/chat/completions", body, authorization="Bearer " + os.environ["OPENAI_API_KEY"], **headers)
    finish(theirs=theirs, own=own)
elif how == "endless query":
    def ask():
        with psycopg.connect(database) as db:
            db.execute("set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0")
            db.execute("select max(md5(a::text || b)) from generate_series(1, 30000) a, generate_series(1, 30000) b")
    for _ in range(3): threading.Thread(target=ask).start()
elif how == "locks":
    in_background("update items set label = 'held'", "listen x")
    in_background("declare c cursor for select id from items", "savepoint s")
    with psycopg.connect(database, autocommit=True) as db:
        refused = []
        for statement in (
            "begin; lock table items in access exclusive mode", "rollback; select pg_advisory_lock(1)", "begin; prepare transaction 'x'"
        ):
            try: db.execute(statement)
            except psycopg.Error as error: refused.append(error.sqlstate)
    finish(refused=refused)
elif how == "connections":
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    held = []
    def flood(host, port, count):
        for _ in range(count):
            try: held.append(socket.create_connection((host, port), timeout=0.2))
            except OSError: break
    flood("main-db", 5432, 120)
    time.sleep(0.5)
    served = call("/items", json.dumps({"id": 2, "label": "served"}).encode(), base=os.environ["COUNTER_URL"])
    flood("gateway", 80, 400)
    flood("counter", 8080, 400)
    finish(served=served, held=len(held))
elif how == "server memory":
    errors = []
    with psycopg.connect(database, autocommit=True) as db:
        try: db.execute("select length(repeat(repeat('x', 1000), 1000000))")
        except psycopg.Error as error: errors.append(error.sqlstate)
        finish(errors=errors, after=db.execute("select 1").fetchone()[0])
elif how == "table flood":
    with psycopg.connect(database, autocommit=True) as db:
        text = os.urandom(2 << 20).hex()
        while True: db.execute("update items set label = %s", [text])
elif how == "log flood":
    with psycopg.connect(database) as db:
        while True: db.execute("select length('" + "x" * (8 << 20) + "')")
"""

FINE = Cause.COMPLETED
ENDINGS = {
    "nothing": (FINE, ""),
    "exit 163": (Cause.AGENT_FAILED, "exit code 163: gone"),
    "exit 255": (Cause.AGENT_FAILED, "exit code 255: gone"),
    "ten gigabytes": (Cause.AGENT_EXHAUSTED_BUDGET, "output"),
    "sparse terabyte": (FINE, ""),
    "device": (FINE, ""),
    "link to a device": (Cause.AGENT_FAILED, "symbolic link"),
    "huge integer": (Cause.AGENT_FAILED, "more than 40 digits"),
    "NUL bytes": (Cause.AGENT_FAILED, "not JSON"),
    "twelve orders": (Cause.AGENT_FAILED, "out of range"),
    "cpu": (FINE, ""),
    "fill": (FINE, ""),
    "hostile": (Cause.AGENT_REFUSED, "script"),
    "spans": (Cause.AGENT_EXHAUSTED_BUDGET, "spans"),
    "malformed": (FINE, ""),
    "forged": (FINE, ""),
    "endless query": (Cause.AGENT_TIMED_OUT, "still running"),
    "locks": (FINE, ""),
    "connections": (FINE, ""),
    "table flood": (Cause.AGENT_EXHAUSTED_BUDGET, "database writes"),
    "log flood": (Cause.AGENT_EXHAUSTED_BUDGET, "database log"),
    "server memory": (FINE, ""),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = make_project(
        tmp_path_factory.mktemp("enemy") / "p",
        agent=AGENT,
        tickets=[ticket(how, how) for how in ENDINGS],
        agent_spec={"environment": {"HOSTILE": json.dumps(HOSTILE)}},
        scenario={
            "run": {"pods": 2},
            "limits": {"wall": "15s", "memory": "256Mi", "disk": "16Mi", "processes": 40, "spans": 1000},
            "model": {"mode": "scripted", "script": "script.yaml", "prices": {"scripted-helper": {"input": 1, "output": 1}}},
        },
    )
    (made.root / "script.yaml").write_text("rules:\n  - {match: '.', reply: fine}\n")
    running = made.start("run", "scenario.yaml", "-q")
    said, cost = waited_for(running, 120)
    assert running.returncode == 100, said
    assert "Traceback" not in said
    assert cost.ru_maxrss < 400 * 1024, f"podctl or one of its helpers took {cost.ru_maxrss >> 10} MiB"
    return made


def waited_for(running: subprocess.Popen[str], seconds: float) -> tuple[str, resource.struct_rusage]:
    """What it said, and what it and its children used."""
    killer = threading.Timer(seconds, running.kill)
    killer.start()
    try:
        assert running.stdout is not None and running.stderr is not None
        said = running.stderr.read() + running.stdout.read()
        _, status, cost = os.wait4(running.pid, 0)
    finally:
        killer.cancel()
    running.returncode = os.waitstatus_to_exitcode(status)
    return said, cost


def output_of(project: Project, how: str) -> dict[str, Any]:
    attempt = project.attempts()[how]
    path = project.store / "runs" / project.run().info.id / "attempts" / attempt.id / "result.json"
    output: dict[str, Any] = json.loads(path.read_text())["output"]
    return output


@pytest.mark.parametrize("how", ENDINGS)
def test_every_ending_has_its_cause(project: Project, how: str) -> None:
    attempt = project.attempts()[how]
    cause, detail = ENDINGS[how]
    assert (attempt.cause, detail in attempt.detail) == (cause, True), f"{attempt.cause} {attempt.detail!r}"
    assert attempt.tries == 1, "what an agent does is no failure of the infrastructure"


def test_the_next_attempt_does_not_notice(project: Project) -> None:
    by_pod: dict[str, list[AttemptResult]] = {}
    for attempt in sorted(project.run().attempts, key=lambda attempt: attempt.started_ns):
        by_pod.setdefault(attempt.pod, []).append(attempt)
    assert len(by_pod) == 2, "a pod had to be replaced"
    pairs = [pair for attempts in by_pod.values() for pair in pairwise(attempts)]
    slow = {before.ticket: after.phases["reset"] for before, after in pairs if after.phases["reset"] > 1.5}
    assert slow == {}


def test_every_place_that_can_be_written_is_bounded(project: Project) -> None:
    filled = output_of(project, "fill")
    assert set(filled) == {"/workspace", "/tmp", "/dev/shm"}
    for place, most in (("/workspace", 16 << 20), ("/tmp", 64 << 20), ("/dev/shm", 64 << 20)):
        size, files = filled[place]
        assert 0 < size <= most and 0 < files <= 20_000, place


def test_processors_are_shared_as_the_limit_says(project: Project) -> None:
    if cgroups.version() == 0:
        pytest.skip("no control groups here: the processor is not limited")
    attempt = project.attempts()["cpu"]
    assert attempt.cpu_s <= attempt.wall_s * 1.2, "six processes at once took more than one processor"


def test_files_that_are_none_are_not_made_or_not_read(project: Project) -> None:
    assert output_of(project, "sparse terabyte") == {"errno": errno.EFBIG}
    assert output_of(project, "device") == {"errno": errno.EPERM}


def test_locks_are_few_and_end_with_the_attempt(project: Project) -> None:
    # LOCK needs a right on the table, advisory locks are not granted, prepared transactions are switched off.
    assert output_of(project, "locks")["refused"] == ["42501", "42501", "55000"]


def test_a_server_refuses_a_query_that_wants_the_machine_s_memory(project: Project) -> None:
    assert output_of(project, "server memory") == {"errors": ["53200"], "after": 1}


def test_a_service_reaches_its_database_while_the_agent_floods_it(project: Project) -> None:
    output = output_of(project, "connections")
    assert output["served"] == 200
    assert output["held"] > 300, "the flood was none"


def test_an_identity_cannot_be_forged(project: Project) -> None:
    assert output_of(project, "forged") == {"theirs": 401, "own": 200}
    run = project.run()
    attempt = project.attempts()["forged"]
    (span,) = project.records("forged", "span")
    (decision,) = project.records("forged", "decision")
    assert {record["provenance"] for record in (span, decision)} == {"declared"}
    assert {record["actor"] for record in (span, decision)} == {"agent"}
    (call,) = [record for record in project.records("forged", "model.call") if record["data"]["status"] != "started"]
    for record in (call, span, decision):
        assert record["who"]["digest"] == run.info.agent_digest
    assert attempt.model_calls == 1 and len(project.records("forged", "gateway.refused")) == 1
    shown = project.podctl("trace", "latest", "forged").stdout
    assert "20200101-000000-ffffff" not in shown.replace("'20200101-000000-ffffff.0001-1'", "")


class Page(HTMLParser):
    """What a browser would take for an element or an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers: list[str] = []
        self.scripts: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self._script = tag == "script"

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._script = False


SHOWN = [
    ("trace", "latest", "hostile"),
    ("trace", "latest", "hostile", "-o", "json"),
    ("diff", "latest", "hostile"),
    ("get", "attempts", "latest"),
    ("get", "attempts", "latest", "-o", "json"),
    ("describe", "run", "latest"),
    ("report", "latest"),
    ("audit", "verify", "latest"),
]


def test_nothing_hostile_reaches_the_terminal(project: Project) -> None:
    told = project.records("hostile")
    kinds = {record["kind"] for record in told}
    assert {"sql.statement", "row.change", "decision", "span", "http.call", "model.call"} <= kinds, "it said nothing hostile"
    for command in SHOWN:
        shown = project.podctl(*command)
        assert shown.returncode == 0, (command, shown.stderr)
        bad = sorted({c for c in shown.stdout + shown.stderr if c != "\n" and not c.isprintable()})
        assert bad == [], command


def test_nothing_hostile_reaches_the_reports(project: Project, tmp_path: Path) -> None:
    for kind in ("html", "junit", "markdown", "json"):
        written = project.podctl("report", "latest", f"--{kind}", str(tmp_path / kind))
        assert written.returncode == 0, written.stderr
    page = Page()
    page.feed((tmp_path / "html").read_text())
    assert page.handlers == [] and not any("alert(1)" in script for script in page.scripts)
    ElementTree.parse(tmp_path / "junit")
    json.loads((tmp_path / "json").read_text())
    outside_code = re.sub(r"(`+)[^`\n]*\1", "", (tmp_path / "markdown").read_text())
    assert "<script" not in outside_code
    for kind in ("html", "junit", "markdown", "json"):
        text = (tmp_path / kind).read_text()
        assert not set(text) & {"\x00", "\x07", "\x1b", "\x9b", "\u202e"}, kind


def test_nothing_is_left(project: Project) -> None:
    assert traces_of(project.run()) == []
