"""Whether a store's audit log is as it was written, and whether a run's rows and files are what the log says.

What is read may have been changed by anybody who could: each difference is named and nothing raises for one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from podctl.evidence.audit_entries import digest
from podctl.evidence.audit_facts import file_digests, outcome_digest
from podctl.evidence.merkle import Frontier, leaf_hash
from podctl.evidence.note import Checkpoint, NoteProblem, read_note
from podctl.evidence.reading import Opener, verify_opened, within
from podctl.evidence.safe import printable
from podctl.evidence.store_read import StoreReader
from podctl.evidence.store_text import loaded
from podctl.signing import PublicKey

#: Entries that say that there is a run.
_BEGINS = ("run.begun", "run.merged")
#: Leaves that are put into the tree at once.
_PART = 4_096
#: Differences that are told; more are counted.
TOLD = 50


@dataclass(frozen=True)
class LogCheck:
    """``signed``: how many of the first entries a trusted key has signed for; ``signer`` is that key."""

    origin: str
    size: int
    root: bytes
    problems: tuple[str, ...]
    signed: int = 0
    signer: PublicKey | None = None
    claimed: str = ""  # the id of the key that signed last as the store says, when it is none of the trusted
    gone: tuple[str, ...] = ()  # runs that the log knows and the store has not

    @property
    def words(self) -> str:
        """What a signature says of the log."""
        if self.signer is not None:
            rest = self.size - self.signed
            return f"signed by {self.signer.id} up to entry {self.signed:,}" + (
                f"; {rest:,} since are not signed" if rest else ""
            )
        if self.claimed:
            return f"signed by {self.claimed}, whose public key nobody named: --key tells whom to believe"
        return "not signed: who can change the store can change the log with it"


@dataclass(frozen=True)
class AttemptCheck:
    id: str
    problems: tuple[str, ...]
    note: str = ""  # what else there is to say of how it was sealed


@dataclass(frozen=True)
class RunCheck:
    run: str
    problems: tuple[str, ...]
    attempts: tuple[AttemptCheck, ...]

    @property
    def intact(self) -> bool:
        return not self.problems and not any(attempt.problems for attempt in self.attempts)


@dataclass
class _Problems:
    told: list[str] = field(default_factory=list)
    more: int = 0

    def add(self, problem: str) -> None:
        if len(self.told) < TOLD:
            self.told.append(problem)
        else:
            self.more += 1

    def all(self) -> tuple[str, ...]:
        return (*self.told, f"and {self.more:,} more") if self.more else tuple(self.told)


def check_log(
    reader: StoreReader, keys: Sequence[PublicKey] = (), kept: Sequence[Checkpoint] = (), *, demanded: bool = False
) -> LogCheck:
    """``kept``: checkpoints that somebody took out of the store earlier. Memory does not grow with the log.

    ``demanded``: that one of ``keys`` signed up to the last verdict is a requirement, and not only told.
    """
    problems = _Problems()
    origin, size, peaks = reader.audit_head()
    checkpoints = reader.audit_checkpoints()
    wanted = {at for at, _, _ in checkpoints} | {one.size for one in kept}
    frontier, roots, fresh = Frontier(), {0: Frontier().root}, list[bytes]()
    expected, begun, judged = 0, set[str](), 0
    for position, run, entry, leaf in reader.audit_rows():
        if position > expected:
            problems.add(f"{_entries(expected, position)} gone")
        expected = position + 1
        found = leaf_hash(entry.encode("utf-8", "surrogatepass")) if entry is not None else bytes(32)
        if found.hex() != leaf:
            problems.add(f"entry {position + 1} was changed")
        elif (said := entry_of(entry)).get("n") != position or said.get("run", "") != run:
            problems.add(
                f"entry {position + 1} was not written there: it says that it is entry {_number(said)}, of run {_word(said)}"
            )
        elif said["kind"] in (*_BEGINS, "run.adopted"):
            begun.add(run)
        elif said["kind"] == "run.judged":
            judged = position + 1
        # Of what was changed the old leaf goes into the tree: one difference is told once, and later ones still are.
        fresh.append(_hash(leaf, found))
        if len(fresh) >= _PART or frontier.size + len(fresh) in wanted:
            frontier, fresh = frontier.plus(fresh), []
            roots[frontier.size] = frontier.root
    frontier = frontier.plus(fresh)
    roots[frontier.size] = frontier.root
    if expected < size:
        problems.add(f"{_entries(expected, size)} gone: the end was cut off")
    elif expected > size:
        problems.add(f"{_entries(size, expected)} more than the log had")
    elif b"".join(frontier.peaks).hex() != peaks:
        problems.add(f"the log is not as its head says{_between(roots, checkpoints, frontier.size)}")
    gone = tuple(printable(run, 64) for run in sorted(begun - reader.stored_runs()))
    for one in kept:
        if problem := kept_problem(one, origin, frontier.size, roots):
            problems.add(problem)
    signed, signer, claimed = _signatures(checkpoints, roots, origin, keys, problems)
    # Who changed the store without the key could take the signatures out with it, and all would be whole and unsigned.
    # Before a first verdict nothing has to be signed: a run may be under way, or killed.
    if demanded and judged and (signer is None or signed < judged):
        problems.add(f"{_entries(signed, max(judged, signed + 1))} not signed by a key that was named")
    return LogCheck(origin, frontier.size, frontier.root, problems.all(), signed, signer, claimed, gone)


def _signatures(
    checkpoints: Sequence[tuple[int, str, str]],
    roots: Mapping[int, bytes],
    origin: str,
    keys: Sequence[PublicKey],
    problems: _Problems,
) -> tuple[int, PublicKey | None, str]:
    signed, signer, claimed, broken = 0, None, "", 0
    for size, text, key in checkpoints:
        try:
            checkpoint, signers = read_checkpoint(text.encode("utf-8", "surrogatepass"), keys)
        except NoteProblem as error:
            problems.add(f"the checkpoint after entry {size} is none: {error.cause}")
            continue
        right = (checkpoint.origin, checkpoint.size) == (origin, size) and roots.get(size) == checkpoint.root
        if not right:
            broken = broken or size
            if broken < size:
                continue
            problems.add(f"the first {size:,} entries are not those of the checkpoint that was made then")
        elif signers:
            signed, signer, claimed = size, signers[0], ""
        elif key:
            claimed = _key_id(key)
            if keys:
                problems.add(f"the checkpoint after entry {size} is not signed by a key that was named")
    return signed, signer, "" if signer is not None else claimed


def _key_id(key: str) -> str:
    try:
        return PublicKey(bytes.fromhex(key)).id
    except Exception:
        return "a key that is none"


def _between(roots: Mapping[int, bytes], checkpoints: Sequence[tuple[int, str, str]], size: int) -> str:
    """Where a log was rewritten, as near as its checkpoints tell."""
    good = 0
    for at, text, _ in checkpoints:
        try:
            checkpoint, _signers = read_checkpoint(text.encode("utf-8", "surrogatepass"), ())
        except NoteProblem:
            continue
        if roots.get(at) != checkpoint.root:
            return f": among entries {good + 1} to {at}"
        good = at
    return f": among entries {good + 1} to {size}"


def kept_problem(kept: Checkpoint, origin: str, size: int, roots: Mapping[int, bytes]) -> str:
    """Empty where the log still begins with what it had when the checkpoint was kept; ``roots``: size -> root."""
    if kept.origin != origin:
        return f"the checkpoint that was kept is of another log: {printable(kept.origin, 100)}, and this is {origin}"
    if kept.size > size:
        return f"the log had {kept.size:,} entries when the checkpoint was kept and has {size:,} now: its end was cut off"
    if roots.get(kept.size) != kept.root:
        return f"the first {kept.size:,} entries are not those of the checkpoint that was kept: the log was rewritten"
    return ""


def read_checkpoint(content: bytes, keys: Sequence[PublicKey]) -> tuple[Checkpoint, list[PublicKey]]:
    """A checkpoint, signed or not, and which of ``keys`` signed it. Raises `NoteProblem`."""
    if b"\n\n" in content:
        note = read_note(content)
        return Checkpoint.of(note.text), note.signers(keys)
    try:
        return Checkpoint.of(content[:1000].decode("utf-8")), []
    except UnicodeDecodeError:
        return Checkpoint.of(""), []


def check_run(reader: StoreReader, run: str) -> RunCheck:
    """The run's rows and files against its entries, whose own truth `check_log` tells. Raises `StoreProblem` where there is no such run."""
    attempts = (
        (name, state, root, result, within(reader.evidence_directory(run, name)))
        for name, state, root, result in reader.stored_attempts(run)
    )
    checked = compare_run(run, reader.stored_run(run), list(entries_of(reader, run)), attempts)
    return replace(checked, problems=(*checked.problems, *_unlike_copies(reader, run)))


def _unlike_copies(reader: StoreReader, run: str) -> Iterator[str]:
    """Lists are read from columns, for speed; the log has digests of the JSON that they are copies of."""
    row, attempts = reader.copies(run)
    for name in _differing(row, row.pop("info")):
        yield f"the run's column {name} is not what the run was"
    for attempt in attempts:
        for name in _differing(attempt, attempt.pop("result")):
            yield f"attempt {printable(str(attempt['id']), 64)}: column {name} is not what its result says"


def _differing(columns: Mapping[str, Any], stored: Any) -> list[str]:
    try:
        told = json.loads(stored)
    except (ValueError, RecursionError, TypeError):
        told = None
    told = told if isinstance(told, dict) else {}
    shown = {name: loaded(value) if isinstance(value, str) else value for name, value in columns.items()}
    return [name for name, value in shown.items() if told.get(name) != value]


def compare_run(
    run: str,
    row: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    attempts: Iterable[tuple[str, str, str, str | None, Opener]],
) -> RunCheck:
    """``attempts``: (id, state, root, result, its files), as they are stored."""
    last: dict[str, dict[str, Any]] = {}
    files: dict[str, dict[str, Any]] = {}
    for entry in entries:
        data, attempt, kind = entry["data"], entry.get("attempt", ""), entry["kind"]
        if kind in ("attempt.sealed", "attempt.judged", "attempt.adopted"):
            last[attempt] = data
        if kind == "attempt.sealed":
            named = data.get("files")
            files[attempt] = named if isinstance(named, dict) else {}
    problems = list(_run_problems(row, entries))
    seen, checked = set[str](), []
    for name, state, root, result, opened in attempts:
        if name in seen:
            problems.append(f"attempt {printable(name, 64)} is there twice")
        seen.add(name)
        # What ended stays so: who puts it back among what is to be made takes it out of every figure.
        if name in last and state != "ended":
            problem = f"the log says that it ended, and the store that it is {printable(state, 20)}"
            checked.append(AttemptCheck(name, (problem,)))
        elif state == "ended":
            checked.append(_check_attempt(name, root, result or "", opened, last.get(name), files.get(name)))
    problems += [f"attempt {printable(name, 64)} is in the log and not in the store" for name in sorted(last.keys() - seen)]
    return RunCheck(run, tuple(problems), tuple(checked))


def _run_problems(row: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not entries:
        yield "the log does not know the run"
        return
    of_run = [entry for entry in entries if entry["kind"] in (*_BEGINS, "run.adopted", "run.resumed", "run.judged")]
    if not of_run:
        yield "the log does not say how it began"
        return
    first, last = of_run[0], of_run[-1]
    if first["kind"] in _BEGINS:
        for what in _unlike(first["data"], row["info"]):
            yield f"{what} that the run was begun with is not what the log says"
    ended = last["kind"] == "run.judged" or (last["kind"] == "run.adopted" and last["data"].get("status") != "running")
    if ended != (row["status"] != "running"):
        here, there = ("the log", "the store") if ended else ("the store", "the log")
        yield f"{here} has a verdict, and {there} has none"
        return
    if last["data"].get("info") != digest(row["info"] or ""):
        yield "what the run was is not what the log says"
    if ended and last["data"].get("outcome") != outcome_digest(dict(row)):
        yield "the verdict, its findings or notes are not what the log says"


def _unlike(begun: Mapping[str, Any], stored: str) -> Iterator[str]:
    """What no later entry may make another: a run that goes on is the one that was begun."""
    try:
        info = json.loads(stored)
    except (ValueError, RecursionError, TypeError):
        info = None
    info = info if isinstance(info, dict) else {}
    digests = begun.get("digests")
    digests = digests if isinstance(digests, dict) else {}
    agent = {name: info.get(f"agent_{name}") for name in ("name", "version", "digest")}
    same = {
        "the agent": (begun.get("agent"), agent),
        "the scenario": (begun.get("scenario"), info.get("scenario")),
        "the topology": (begun.get("topology"), info.get("topology")),
        "the specs": (digests.get("spec"), info.get("spec_digest")),
        "the sample": (digests.get("sample"), info.get("sample_digest")),
        "the model": (begun.get("simulated"), info.get("simulated")),
    }
    return (what for what, (told, there) in same.items() if told != there)


def _check_attempt(
    name: str, root: str, result: str, opened: Opener, told: Mapping[str, Any] | None, files: Mapping[str, Any] | None
) -> AttemptCheck:
    problems = []
    if told is None:
        problems.append("the log does not know it")
    else:
        if told.get("root") != root:
            problems.append("its seal in the store is not the one in the log")
            root = str(told.get("root", ""))
        if told.get("result") != digest(result):
            problems.append("its result in the store is not the one in the log")
    note = ""
    if root:
        found = verify_opened(opened, root)
        if not found.intact:
            problems.append(found.detail)
        note = found.detail if found.intact else ""
    if files is not None:
        there = file_digests(opened)
        for file in sorted({*files, *there}):
            if files.get(file) != there.get(file):
                what = "is gone" if file not in there else "was added" if file not in files else "was changed"
                problems.append(f"{printable(file, 40)} {what}")
    return AttemptCheck(name, tuple(problems), note)


def entries_of(reader: StoreReader, run: str | None = None) -> Iterator[dict[str, Any]]:
    """Entries as JSON objects with at least ``n``, ``t``, ``by``, ``kind`` and ``data``; what is none is left out: `check_log` tells it."""
    for _position, _run, entry, _leaf in reader.audit_rows(run):
        said = entry_of(entry)
        if said and (run is None or said.get("run") == run):
            yield said


_FIELDS: dict[str, type] = {"n": int, "t": int, "by": str, "kind": str, "data": dict}


def entry_of(entry: str | None) -> dict[str, Any]:
    """Empty for what is no entry."""
    try:
        said = json.loads(entry or "null")
    except (ValueError, RecursionError):
        return {}
    whole = isinstance(said, dict) and all(type(said.get(name)) is kind for name, kind in _FIELDS.items())
    named = whole and all(type(said.get(name, "")) is str for name in ("run", "attempt"))
    return said if named else {}


def _hash(leaf: str, otherwise: bytes) -> bytes:
    try:
        kept = bytes.fromhex(leaf)
    except ValueError:
        return otherwise
    return kept if len(kept) == 32 else otherwise


def _entries(start: int, end: int) -> str:
    return f"entry {end} is" if end - start == 1 else f"entries {start + 1} to {end} are"


def _number(said: Mapping[str, Any]) -> str:
    return f"{said['n'] + 1}" if said and abs(said["n"]) < 10**15 else "none"


def _word(said: Mapping[str, Any]) -> str:
    return printable(said["run"], 64) if said.get("run") else "none"
