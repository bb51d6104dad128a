"""However an agent ends, the ending is a named cause, and podctl goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import Project, make_project, relabel, ticket, traces_of

from podctl.evidence.causes import Cause

AGENT = r"""
import json, os, signal, subprocess, sys, time
ticket = json.load(open(os.environ["PODCTL_TICKET"]))
done = {"status": "done", "summary": ""}
def finish(value=done):
    json.dump(value, open(os.environ["PODCTL_RESULT"], "w"))
how = ticket["text"]
if how == "nothing": finish()
elif how == "fail": print("it broke", file=sys.stderr); sys.exit(3)
elif how == "signal": os.kill(os.getpid(), signal.SIGSEGV)
elif how == "no result": pass
elif how == "not json": open("result.json", "w").write("{nope")
elif how == "not utf-8": open("result.json", "wb").write(b"\xff\xfe{}")
elif how == "deep": open("result.json", "w").write('{"a":' * 200 + "1" + "}" * 200)
elif how == "nan": open("result.json", "w").write('{"status": "done", "confidence": NaN}')
elif how == "twice": open("result.json", "w").write('{"status": "failed", "status": "done"}')
elif how == "symlink": os.symlink("/etc/passwd", "result.json")
elif how == "fifo": os.mkfifo("result.json")
elif how == "directory": os.mkdir("result.json")
elif how == "sparse": finish(); os.truncate("result.json", 8 << 20)
elif how == "refuse": finish({"status": "refused", "summary": "not mine"})
elif how == "hang": signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)
elif how == "flood":
    while True: sys.stdout.write("\x1b[2Jx" * 10000)
elif how == "memory":
    hog = []
    while True: hog.append(bytearray(16 << 20)); hog[-1][::4096] = b"x" * len(hog[-1][::4096])
elif how == "disk":
    try:
        with open("big", "wb") as big:
            while True: big.write(b"x" * (1 << 20))
    except OSError: os.remove("big"); finish()
elif how == "fork":
    children = 0
    try:
        while children < 500:
            if os.fork() == 0: time.sleep(600)
            children += 1
    except OSError: pass
    finish({"status": "done", "summary": str(children)})
elif how == "outlive":
    subprocess.Popen(["/bin/sh", "-c", "trap '' TERM HUP; setsid sh -c 'sleep 4242' & sleep 4242"], start_new_session=True)
    finish()
elif how == "bad decisions":
    open("decisions.jsonl", "wb").write(b'{"kind": "x", "confidence": 0.5}\nnot json\n\x00\xff\n' + b"[" * 100000 + b"\n")
    finish()
"""

ENDINGS = {
    "nothing": (Cause.COMPLETED, ""),
    "fail": (Cause.AGENT_FAILED, "exit code 3: it broke"),
    "signal": (Cause.AGENT_FAILED, "SIGSEGV"),
    "no result": (Cause.AGENT_FAILED, "no result.json"),
    "not json": (Cause.AGENT_FAILED, "not JSON"),
    "not utf-8": (Cause.AGENT_FAILED, "not UTF-8"),
    "deep": (Cause.AGENT_FAILED, "nested"),
    "nan": (Cause.AGENT_FAILED, "NaN"),
    "twice": (Cause.AGENT_FAILED, "twice"),
    "symlink": (Cause.AGENT_FAILED, "symbolic link"),
    "fifo": (Cause.AGENT_FAILED, "not a regular file"),
    "directory": (Cause.AGENT_FAILED, "directory"),
    "sparse": (Cause.AGENT_FAILED, "larger than the limit"),
    "refuse": (Cause.AGENT_REFUSED, "not mine"),
    "hang": (Cause.AGENT_TIMED_OUT, "still running"),
    "flood": (Cause.AGENT_EXHAUSTED_BUDGET, "output"),
    "memory": (None, ""),
    "disk": (Cause.COMPLETED, ""),
    "fork": (Cause.COMPLETED, ""),
    "outlive": (Cause.COMPLETED, ""),
    "bad decisions": (Cause.COMPLETED, ""),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    tickets = [ticket(how, how) for how in ENDINGS]
    made = make_project(
        tmp_path_factory.mktemp("endings") / "p",
        agent=AGENT,
        tickets=tickets,
        scenario={"limits": {"wall": "4s", "memory": "256Mi", "output": "64Ki", "disk": "16Mi", "processes": 40}},
    )
    finished = made.podctl("run", "scenario.yaml", "-q")
    assert finished.returncode == 100, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    return made


@pytest.mark.parametrize("how", ENDINGS)
def test_every_ending_has_its_cause(project: Project, how: str) -> None:
    attempt = project.attempts()[how]
    cause, detail = ENDINGS[how]
    if how == "memory":
        # With control groups the kernel ends the tree; without them the allocation fails inside the program.
        assert attempt.cause in (Cause.AGENT_EXHAUSTED_BUDGET, Cause.AGENT_FAILED)
        return
    assert (attempt.cause, detail in attempt.detail) == (cause, True), f"{attempt.cause} {attempt.detail!r}"


def test_a_fork_bomb_is_bounded_by_the_limit(project: Project) -> None:
    result = project.run()
    attempt = project.attempts()["fork"]
    text = (project.store / "runs" / result.info.id / "attempts" / attempt.id / "result.json").read_text()
    assert '"summary": "3' in text or int(text.split('"summary": "')[1].split('"')[0]) <= 44


def test_output_is_kept_up_to_its_limit_and_shown_without_its_escapes(project: Project) -> None:
    result = project.run()
    attempt = project.attempts()["flood"]
    kept = project.store / "runs" / result.info.id / "attempts" / attempt.id / "stdout"
    assert 0 < kept.stat().st_size <= 64 * 1024
    for command in (("trace", "latest", "flood"), ("get", "attempts"), ("diff", "latest", "flood")):
        shown = project.podctl(*command)
        assert shown.returncode == 0, shown.stderr
        assert "\x1b" not in shown.stdout


def test_nothing_is_left(project: Project) -> None:
    result = project.run()
    assert traces_of(result) == []
    outliving = [p for p in Path("/proc").iterdir() if p.name.isdigit() and b"4242" in _cmdline(p)]
    assert outliving == []


def _cmdline(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_what_one_attempt_did_the_next_does_not_see(tmp_path: Path) -> None:
    agent = r"""
import json, os, pathlib, urllib.request, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as db:
    label = db.execute("select label from items where id = 1").fetchone()[0]
    db.execute("update items set label = 'changed' where id = 1")
seen = json.load(urllib.request.urlopen(os.environ["COUNTER_URL"] + "/x"))["seen"]
left = sorted(p.name for d in ("/tmp", "/workspace", "/dev/shm") for p in pathlib.Path(d).iterdir() if p.is_file())
for d in ("/tmp", "/workspace", "/dev/shm"):
    pathlib.Path(d, "mine").write_text("x")
json.dump({"status": "done", "output": {"label": label, "seen": seen, "left": left}}, open("result.json", "w"))
"""
    project = make_project(
        tmp_path / "p",
        agent=agent,
        tickets=[ticket(str(n), changes=[relabel(1, "changed")]) for n in range(4)],
        scenario={
            "run": {"pods": 1, "repeats": 2},
            "checks": [
                {"kind": "state"},
                {"kind": "output", "name": "label", "path": "label", "equals": "item 1"},
                {"kind": "output", "name": "seen", "path": "seen", "equals": 1},
                {"kind": "output", "name": "left", "path": "left", "equals": ["ticket.json"]},
            ],
        },
    )
    text = (project.root / "scenario.yaml").read_text().replace("path: ", "path: output.")
    (project.root / "scenario.yaml").write_text(text)
    finished = project.podctl("run", "scenario.yaml", "-q")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    attempts = project.run().attempts
    assert [attempt.passed for attempt in attempts] == [True] * 8, [check.message for a in attempts for check in a.checks]
    assert len({attempt.pod for attempt in attempts}) == 1
