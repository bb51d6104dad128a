"""The shards of a run put together: what the whole would have come to in one piece, with every attempt's evidence."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from podctl.controller.run import refuse_unsigned
from podctl.controller.verdict import conclude
from podctl.errors import ExitCode, SpecError
from podctl.evidence.reading import verify
from podctl.evidence.results import FidelityPart, RunInfo, RunResult, Shard, weakest
from podctl.evidence.store import Store
from podctl.evidence.store_problems import StoreProblem
from podctl.evidence.store_rows import known_dollars
from podctl.faults import point
from podctl.spec.models import Gate

_UNCHANGED = "the shards were left as they are; nothing was merged"


@dataclass(frozen=True)
class Piece:
    """A shard's run, and the store that has it."""

    store: Store
    result: RunResult
    shard: Shard

    @property
    def named(self) -> str:
        return f"shard {self.shard} (run {self.result.info.id})"


def piece_of(store: Store, run: str) -> Piece:
    """Raises `StoreProblem` where there is no such run, `SpecError` where it is no shard or is still being worked on."""
    result = store.load_run(store.find_run(run))
    shard = result.info.shard
    if shard is None:
        raise SpecError(
            f"run {result.info.id} is no shard",
            code="merge-no-shard",
            unchanged=_UNCHANGED,
            hint="shards are made by podctl run SCENARIO --shard I/N",
        )
    piece = Piece(store, result, shard)
    if result.status == "running":
        raise SpecError(
            f"{piece.named} has not ended",
            code="merge-running",
            cause="it is being worked on, or the machine that did so is gone",
            unchanged=_UNCHANGED,
            hint="wait for it; or make it again, or go on with it: --resume",
        )
    return piece


def pieces_in(store: Store) -> list[Piece]:
    """Every shard that the store has. Raises as `piece_of` does, and where there is none."""
    shards = [summary.info.id for summary in store.list_runs() if summary.info.shard is not None]
    if not shards:
        raise SpecError(f"there is no shard in {store.directory}", code="merge-no-shard", unchanged=_UNCHANGED)
    return [piece_of(store, run) for run in shards]


def merge(pieces: Sequence[Piece], store: Store, base: RunResult | None) -> tuple[RunResult, bool]:
    """The whole run, as it now stands in ``store``, and whether it stood there before: the same shards make the same run.

    Raises `SpecError` for shards that do not make one whole, `StoreProblem` for evidence that is not as it was sealed.
    """
    whole = _whole(pieces)
    run = _id_of(whole)
    refuse_unsigned(whole[0].result.info.settings.get("run", {}).get("audit", ""), store)
    states = {
        (piece.result.info.id, state.planned.id): state
        for piece in whole
        for state in piece.store.planned(piece.result.info.id)
    }
    planned = sorted(states.values(), key=lambda state: (state.planned.position, state.planned.repeat))
    attempts = sorted(
        (attempt for piece in whole for attempt in piece.result.attempts),
        key=lambda attempt: (attempt.position, attempt.repeat),
    )
    spent = known_dollars(None if piece.result.spent_dollars is None else str(piece.result.spent_dollars) for piece in whole)
    result = conclude(
        _info(run, whole),
        attempts,
        planned=len(planned),
        gate=Gate.model_validate(whole[0].result.info.settings["gate"]),
        spent=spent,
        notes=_notes(whole),
        base=base,
    )
    if store.has_run(run):
        store.finish_run(run, result)
        return result, True
    shutil.rmtree(store.run_directory(run), ignore_errors=True)  # what a merge that was killed had copied
    for piece in whole:
        _copy_evidence(piece, store, run)
    point("merge.copied")
    made = [one for piece in whole for one in piece.store.tries(piece.result.info.id)]
    store.take_in(result, planned, made)
    point("merge.stored")
    return result, False


def _whole(pieces: Sequence[Piece]) -> list[Piece]:
    """In their order. Raises `SpecError` unless they are every shard of one run, each once."""
    if not pieces:
        raise SpecError("no shard was named", code="merge-no-shard", hint="podctl merge RUN… or podctl merge DIRECTORY…")
    ordered = sorted(pieces, key=lambda piece: piece.shard.number)
    first = ordered[0]
    for piece in ordered[1:]:
        same = zip(_identity(first.result.info), _identity(piece.result.info), strict=True)
        differing = [what for (what, one), (_, other) in same if one != other]
        if differing:
            raise SpecError(
                f"{piece.named} and {first.named} are not of one run: {' and '.join(differing)} differ",
                code="merge-different",
                unchanged=_UNCHANGED,
                hint="make every shard of the same files, with the same options and the same podctl",
            )
    found: dict[int, list[Piece]] = defaultdict(list)
    for piece in ordered:
        found[piece.shard.number].append(piece)
    doubled = [there for there in found.values() if len(there) > 1]
    if doubled:
        runs = " and ".join(piece.result.info.id for piece in doubled[0])
        raise SpecError(
            f"shard {doubled[0][0].shard} is there {len(doubled[0])} times: runs {runs}",
            code="merge-doubled",
            unchanged=_UNCHANGED,
            hint="name one run of each shard: podctl merge RUN…",
        )
    of = first.shard.of
    missing = [f"{number}/{of}" for number in range(1, of + 1) if number not in found]
    if missing:
        raise SpecError(
            f"{'shard' if len(missing) == 1 else 'shards'} {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            code="merge-missing",
            cause=f"there is {', '.join(piece.named for piece in ordered)}",
            unchanged=_UNCHANGED,
        )
    return ordered


def _identity(info: RunInfo) -> list[tuple[str, Any]]:
    """What must be the same for attempts to be of one run, in the words of an error."""
    return [
        ("the scenarios", info.scenario),
        ("the agents", (info.agent_name, info.agent_version, info.agent_digest)),
        ("the specs", (info.spec_digest, info.topology, info.repeats, info.seed, info.model_mode)),
        ("the quarantines", info.quarantine),
        ("the campaigns", info.campaign),
        ("the samples", (info.sample_digest, info.sample_size, info.population_size, info.strata)),
        ("the numbers of shards", info.shard.of if info.shard else 0),
        ("the backends", info.backend),
        ("podctl's versions", info.podctl_version),
    ]


def _id_of(whole: Sequence[Piece]) -> str:
    """By what the shards hold: merging the same ones again gives the same run."""
    held = [
        f"{piece.result.info.id} {attempt.id} {attempt.evidence_root}" for piece in whole for attempt in piece.result.attempts
    ]
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(_started(whole) / 1e9))
    return f"{stamp}-{hashlib.sha256(chr(10).join(held).encode()).hexdigest()[:8]}"


def _started(whole: Sequence[Piece]) -> int:
    # A moment after the last shard began, so that of these runs the whole is the latest.
    return max(piece.result.info.started_ns for piece in whole) + 1


def _info(run: str, whole: Sequence[Piece]) -> RunInfo:
    infos = [piece.result.info for piece in whole]
    return replace(
        infos[0],
        id=run,
        started_ns=_started(whole),
        ended_ns=max(_started(whole), *(info.ended_ns for info in infos)),
        isolation="; or: ".join(dict.fromkeys(info.isolation for info in infos)),
        shard=None,
        merged=tuple(info.id for info in infos),
        controls=weakest([info.controls for info in infos]),
        resumed=any(info.resumed for info in infos),
    )


def _notes(whole: Sequence[Piece]) -> list[str]:
    """Those of every shard once, the others with their shard; and where shards' test pods were not alike."""
    everywhere = set.intersection(*(set(piece.result.notes) for piece in whole))
    notes = [note for note in whole[0].result.notes if note in everywhere]
    for piece in whole:
        notes += [f"shard {piece.shard}: {note}" for note in piece.result.notes if note not in everywhere]
        if unlike := _unlike(whole[0].result.info.fidelity, piece.result.info.fidelity):
            notes.append(f"the test pods of shards {whole[0].shard} and {piece.shard} differ in {', '.join(unlike)}")
    return notes


def _unlike(one: Sequence[FidelityPart], other: Sequence[FidelityPart]) -> list[str]:
    first, second = ({part.name: part for part in parts} for parts in (one, other))
    return sorted(name for name in {*first, *second} if first.get(name) != second.get(name))


def _copy_evidence(piece: Piece, store: Store, run: str) -> None:
    here = piece.result.info.id
    roots = {attempt.id: attempt.evidence_root for attempt in piece.result.attempts}
    for state in piece.store.planned(here):
        if not state.tries:
            continue
        source = piece.store.evidence_directory(here, state.planned.id)
        root = roots.get(state.planned.id)
        if root is not None:
            found = verify(source, root)
            if not found.intact:
                raise StoreProblem(
                    f"the evidence of attempt {state.planned.id} of {piece.named} is not as it was sealed",
                    code="merge-damaged",
                    cause=found.detail,
                    unchanged=_UNCHANGED,
                    hint=f"podctl audit verify {here} --store {piece.store.directory}",
                    exit_code=ExitCode.ENVIRONMENT,
                )
        if source.is_dir():
            _copy(source, store.attempt_directory(run, state.planned.id))


def _copy(source: Path, target: Path) -> None:
    """Regular files and directories alone: what came from elsewhere may hold links to anything."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in os.scandir(source):
        if entry.is_dir(follow_symlinks=False):
            _copy(Path(entry.path), target / entry.name)
        elif stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            shutil.copy2(entry.path, target / entry.name, follow_symlinks=False)
