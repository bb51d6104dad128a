"""The sample that a run works: drawn anew, or the tickets of a frozen sample if they are what they were."""

from __future__ import annotations

import difflib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podctl.errors import SpecError
from podctl.spec.base import API_VERSION
from podctl.spec.problems import printable, shown
from podctl.spec.tickets import Prior, Sample
from podctl.tickets.files import write_whole
from podctl.tickets.sample import Drawn, digest, draw, population_of
from podctl.tickets.types import Ticket

_MAX_FILE = 64 << 20
_MAX_SHOWN = 20


@dataclass(frozen=True)
class _Frozen:
    sample: dict[str, Any]
    drawn: list[dict[str, Any]]
    strata: dict[str, tuple[int, int]]
    digest: str


def drawn_sample(tickets: Sequence[Ticket], sample: Sample) -> Drawn:
    """Raises `SpecError`: what `draw` does, a prior that cannot be read, a frozen sample whose tickets changed."""
    if sample.frozen is not None:
        return _thaw(sample.frozen, tickets, sample)
    return draw(tickets, sample, deviations_of(sample.prior, tickets))


def freeze(tickets: Sequence[Ticket], sample: Sample, path: Path) -> Drawn:
    """Draw by the design and write which tickets were drawn, with the digest of each. Raises `SpecError`, OSError."""
    drawn = draw(tickets, sample, deviations_of(sample.prior, tickets))
    entries = [
        {"id": ticket.id, "stratum": ticket.stratum, "weight": drawn.weights[ticket.id], "digest": digest([ticket])}
        for ticket in drawn.tickets
    ]
    frozen = {
        "apiVersion": API_VERSION,
        "kind": "FrozenSample",
        "digest": drawn.digest,
        "sample": _design(sample),
        "strata": {name: {"sample": count, "population": total} for name, (count, total) in drawn.strata.items()},
        "tickets": entries,
    }
    if not path.parent.is_dir():
        raise SpecError(
            f"no such directory: {printable(shown(path.parent))}",
            code="sample-not-found",
            unchanged="nothing was written",
            hint="make it, or name another file as frozen",
        )
    write_whole(path, (json.dumps(frozen, indent=1) + "\n").encode("ascii"))
    return drawn


def deviations_of(prior: Prior | None, tickets: Sequence[Ticket]) -> dict[str, float] | None:
    """Stratum -> standard deviation. Of a pass rate p it is √(p (1 − p)); of a run's result, p is (passed + ½) / (attempts + 1), Jeffreys'
    estimate, for 0 of 3 does not mean that nothing ever passes, and a stratum that the run did not have counts as p = ½.

    Raises `SpecError` for a stratum that no ticket is in, and for a result that cannot be read.
    """
    if prior is None:
        return None
    there = {ticket.stratum for ticket in tickets}
    if prior.result is not None:
        counts = _passed(prior.result)
        return {name: _spread(*counts.get(name, (0, 0))) for name in there}
    named = prior.pass_rates if prior.pass_rates is not None else prior.deviations or {}
    unknown = sorted(set(named) - there)
    if unknown:
        near = difflib.get_close_matches(unknown[0], sorted(there), n=1)
        raise SpecError(
            f"the prior names a stratum that no ticket is in: {printable(unknown[0], 60)}",
            code="sample-prior",
            hint=f"did you mean {printable(near[0], 60)}?" if near else "podctl tickets lists the strata",
        )
    return {name: math.sqrt(p * (1 - p)) for name, p in named.items()} if prior.pass_rates is not None else dict(named)


def _spread(passed: float, of: float) -> float:
    rate = (passed + 0.5) / (of + 1)
    return math.sqrt(rate * (1 - rate))


def _passed(path: Path) -> dict[str, tuple[int, int]]:
    value = _read(path, "RunReport", "podctl run --json writes it")
    try:
        strata = value["summary"]["strata"]
        counts = {str(one["name"]): (int(one["rate"]["passed"]), int(one["rate"]["of"])) for one in strata}
    except (KeyError, TypeError, ValueError) as error:
        raise _unfit(path, "it has no strata with pass rates") from error
    if any(not 0 <= passed <= of for passed, of in counts.values()):
        raise _unfit(path, "more passed than were tried")
    return counts


def _thaw(path: Path, tickets: Sequence[Ticket], sample: Sample) -> Drawn:
    frozen = _frozen(path)
    if frozen.sample != _design(sample):
        changed = sorted(
            name for name in {*frozen.sample, *_design(sample)} if frozen.sample.get(name) != _design(sample).get(name)
        )
        raise SpecError(
            f"the frozen sample {printable(shown(path))} was drawn otherwise than the scenario says now: {', '.join(changed)}",
            code="sample-frozen",
            unchanged="nothing was made",
            hint="podctl tickets freeze SCENARIO --again draws anew; or restore what it was drawn by",
        )
    there = {ticket.id: ticket for ticket in population_of(tickets, sample)}
    ids = [entry["id"] for entry in frozen.drawn]
    gone = [identity for identity in ids if identity not in there]
    changed = [
        entry["id"] for entry in frozen.drawn if entry["id"] in there and digest([there[entry["id"]]]) != entry["digest"]
    ]
    if gone or changed:
        raise SpecError(
            f"the tickets of the frozen sample {printable(shown(path))} are not what they were: "
            f"{len(changed)} changed, {len(gone)} gone, of {len(ids)}",
            code="sample-frozen",
            cause="\n".join([_listed("changed", changed), _listed("gone", gone)]).strip(),
            unchanged="nothing was made",
            hint="restore the source; or podctl tickets freeze SCENARIO --again draws anew, and results before and after do not compare",
        )
    chosen = tuple(there[identity] for identity in ids)
    if digest(chosen) != frozen.digest:
        raise _unfit(path, "its digest is not that of its tickets")
    return Drawn(chosen, frozen.digest, frozen.strata, {entry["id"]: entry["weight"] for entry in frozen.drawn})


def _listed(what: str, ids: list[str]) -> str:
    more = f" and {len(ids) - _MAX_SHOWN} more" if len(ids) > _MAX_SHOWN else ""
    return f"{what}: {printable(', '.join(ids[:_MAX_SHOWN]), 400)}{more}" if ids else ""


def _design(sample: Sample) -> dict[str, Any]:
    """What a sample was drawn by, as JSON has it; a prior by its deviations would follow the population, so by its words."""
    design = sample.model_dump(mode="json", exclude={"frozen", "prior"})
    prior = sample.prior
    if prior is not None:
        design["prior"] = prior.model_dump(mode="json", exclude={"result"}, exclude_none=True)
        if prior.result is not None:
            design["prior"]["result"] = {name: list(counts) for name, counts in sorted(_passed(prior.result).items())}
    loaded: dict[str, Any] = json.loads(json.dumps(design))
    return loaded


def _frozen(path: Path) -> _Frozen:
    value = _read(path, "FrozenSample", "podctl tickets freeze SCENARIO writes it")
    try:
        drawn = [
            {"id": str(one["id"]), "stratum": str(one["stratum"]), "weight": float(one["weight"]), "digest": str(one["digest"])}
            for one in value["tickets"]
        ]
        strata = {str(name): (int(one["sample"]), int(one["population"])) for name, one in value["strata"].items()}
        frozen = _Frozen(dict(value["sample"]), drawn, strata, str(value["digest"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unfit(path, "parts are missing or of another kind") from error
    counted = Counter(entry["stratum"] for entry in drawn)
    if len({entry["id"] for entry in drawn}) != len(drawn) or not drawn:
        raise _unfit(path, "it has no tickets, or one twice")
    if any(counted[name] != count or total < count for name, (count, total) in strata.items()) or set(counted) - set(strata):
        raise _unfit(path, "its strata are not those of its tickets")
    return frozen


def _read(path: Path, kind: str, hint: str) -> dict[str, Any]:
    from podctl.tickets.rows import decode

    try:
        if not path.is_file():
            raise SpecError(f"no such file: {printable(shown(path))}", code="sample-not-found", hint=hint)
        if path.stat().st_size > _MAX_FILE:
            raise _unfit(path, f"it is larger than {_MAX_FILE >> 20} MiB")
        value = decode(path.read_text("utf-8"))
    except OSError as error:
        raise SpecError(f"cannot read {printable(shown(path))}", code="sample-not-found", cause=str(error.strerror)) from error
    except ValueError as error:
        raise _unfit(path, f"not valid JSON: {error}") from error
    if not isinstance(value, dict) or value.get("kind") != kind:
        raise _unfit(path, f"expected kind: {kind}", hint)
    return value


def _unfit(path: Path, why: str, hint: str = "") -> SpecError:
    return SpecError(f"{printable(shown(path))} cannot be used: {printable(why)}", code="sample-unfit", hint=hint)
