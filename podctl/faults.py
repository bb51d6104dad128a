"""Named places between two steps of a run, where a test may have podctl killed; without PODCTL_FAULT they do nothing.

``PODCTL_FAULT=kill:NAME`` sends SIGKILL to the process that comes to NAME; ``kill:NAME:N`` the N-th time; ``kill:*:N`` at the
N-th place it comes to, whichever that is. The count is kept in the variable itself, and so per process.
"""

from __future__ import annotations

import os
import signal

SETTING = "PODCTL_FAULT"

#: Every place, and what has just happened there. Names begin with what they are part of.
POINTS: dict[str, str] = {
    "run.prepared": "the sample is drawn; nothing is made",
    "run.swept": "what dead runs left is removed",
    "run.admitted": "the machine is good enough for the agent",
    "run.templates-ready": "every database has its template",
    "run.stored": "the run and its planned attempts are in the store",
    "run.gateway-started": "the gateway has its configuration",
    "run.attempts-made": "every attempt has ended and every pod is discarded",
    "run.gateway-stopped": "the gateway has ended",
    "run.pods-removed": "no pod is left",
    "run.receipt-kept": "the audit log says what was removed",
    "run.judged": "there is a verdict, and it is not stored",
    "run.finished": "the verdict is stored",
    "report.drafted": "a report is written beside its place",
    "run.reported": "the reports are written; podctl is about to exit",
    "template.claimed": "the pod that builds the template has its directory",
    "template.networked": "its init runs",
    "template.initialised": "initdb is done",
    "template.started": "its server answers",
    "template.seeded": "the seed is loaded",
    "template.frozen": "the database is locked down and frozen",
    "template.stopped": "its server has stopped",
    "template.moved": "the data directory is beside the template's place",
    "template.drafted": "the template is whole, under another name",
    "template.made": "the template is in its place; the pod that built it is not removed",
    "pod.make-directory": "before the pod's directory is made",
    "pod.drafted": "the pod's record is written under another name",
    "pod.make-directory.done": "the pod has a directory and a record",
    "pod.make-network": "before its namespaces are made",
    "pod.init-started": "its init runs and stands in no record",
    "pod.make-network.done": "its namespaces are made",
    "pod.make-database": "before its database is made",
    "pod.database-copied": "the template's files are copied",
    "pod.server-started": "its server answers; there is no clone",
    "pod.make-database.done": "its database is ready",
    "pod.make-service": "before its service starts",
    "pod.service-started": "its service has started and is not ready",
    "pod.make-service.done": "its service is ready",
    "pod.make-door": "before its doors are made",
    "pod.make-door.done": "its doors listen; nobody accepts",
    "pod.recorded-gateway": "its record names the gateway, which has none of its sockets",
    "pod.opened": "the gateway has its doors",
    "pod.remove-service": "before its service is stopped, to be started afresh",
    "pod.remove-service.done": "its service is stopped",
    "pod.reset-database": "before its database is reset",
    "pod.clone-dropped": "the old clone is dropped; there is no new one",
    "pod.reset-database.done": "its database is a fresh clone",
    "pod.closed": "the gateway has let go of it; it is about to be removed",
    "try.started": "a try stands in the store",
    "attempt.begun": "its evidence has a first record",
    "attempt.granted": "the agent's role is made",
    "attempt.opened": "the gateway accepts its calls",
    "attempt.agent-running": "the agent runs",
    "attempt.agent-ended": "the agent and all it started are dead",
    "attempt.closed": "the gateway has closed the attempt",
    "attempt.revoked": "the agent's role is dropped",
    "attempt.kept": "the agent's output is written to files",
    "attempt.evidence-read": "statements and row changes are recorded",
    "attempt.graded": "its checks are decided",
    "attempt.leaves-written": "half sealed: the leaf hashes are written",
    "attempt.merged": "half sealed: the streams are merged and still there",
    "attempt.sealed": "its evidence is sealed",
    "try.stored": "its result stands in the store",
    "approval.asked": "a proposal stands in the store; people may answer it",
    "approval.taken": "an answer is taken out of the store, never to be given out again; the gateway has not got it",
    "approval.granted": "the gateway has an answer, and may be carrying out what was approved",
    "early.certain": "this version is worse for certain; nothing of the run is ended yet",
    "early.told": "what is under way has been told to end",
    "early.found": "a resumed run finds that it was certain before; nothing is queued",
    "reap.processes-ended": "a pod's processes are dead",
    "reap.groups-removed": "its control groups are removed",
    "reap.moved": "its directory has another name",
    "reap.removed": "its directory is removed",
    "pull.page-kept": "a page of tickets is kept beside the snapshot",
    "pull.drafted": "the new snapshot is whole, under another name",
    "pull.replaced": "the snapshot is the new one; its state is of the old",
    "pull.remembered": "the state is the new one; the kept pages are still there",
    "capture.begun": "the capture has a private directory",
    "capture.copied": "the rows of a table are written",
    "capture.whole": "the captured seed is whole, under a private name",
    "capture.set-aside": "the seed that is replaced has another name",
    "capture.made": "the seed has its name",
    "merge.copied": "the evidence of every shard is copied; the merged run is not stored",
    "merge.stored": "the merged run stands in the store",
    "gc.listed": "gc knows what is dead",
    "gc.finished": "gc has removed everything and printed nothing",
    "resume.checked": "the run is the same as it was",
    "resume.taken-over": "the run has a new owner",
    "resume.abandoned": "what a killed try spent is stored",
    "try.set-aside": "the files of an earlier try are moved; the new try is not stored",
}


def point(name: str) -> None:
    """The process has come to ``name``. Raises ValueError for a setting that nothing could ever obey."""
    order = os.environ.get(SETTING)
    if order:
        _obey(name, order)


def _obey(name: str, order: str) -> None:
    verb, _, rest = order.partition(":")
    wanted, _, times = rest.partition(":")
    if verb != "kill" or wanted not in (*POINTS, "*") or name not in POINTS or not (times or "1").isdigit():
        raise ValueError(f"{SETTING}={order} at {name}: kill:NAME or kill:NAME:N, with a NAME of podctl/faults.py")
    if wanted not in (name, "*"):
        return
    left = int(times or 1) - 1
    if left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
    os.environ[SETTING] = f"{verb}:{wanted}:{left}"
