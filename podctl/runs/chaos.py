"""A chaos campaign as variants of a run's attempts: each ticket once more with each fault. Reads SQL files, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from podctl.errors import SpecError
from podctl.evidence.results import Variant
from podctl.runs.attempt import Planned
from podctl.runs.skew import library
from podctl.runs.variants import Varied, Vary
from podctl.spec.bundle import Bundle
from podctl.spec.chaos import FAULTS, Chaos
from podctl.spec.load import load_model
from podctl.spec.topology import databases, service_order

KIND = "chaos"
#: Faults that are made in databases, or where the agent runs; the gateway makes the others.
IN_DATABASES = ("rival", "migration")

_MILD: dict[str, dict[str, Any]] = {
    "latency": {"median": 0.2, "most": 2.0, "share": 0.3},
    "errors": {"share": 0.1},
    "timeouts": {"share": 0.05, "hold": 1.0},
    "broken": {"share": 0.05},
    "stale": {"answers": 1},
    "rival": {},
    "migration": {"change": "add-column"},
    "clock": {"offset": 3600.0},
}
_HARSH: dict[str, dict[str, Any]] = {
    "latency": {"median": 1.5, "most": 10.0, "share": 0.8},
    "errors": {"share": 0.5},
    "timeouts": {"share": 0.3, "hold": 5.0},
    "broken": {"share": 0.4},
    "stale": {"answers": 10},
    "rival": {"hold": 2.0},
    "migration": {"change": "rename-column"},
    "clock": {"offset": -400 * 86400.0},
}
#: Name -> fault -> how its settings differ from what a fault is when nothing is said.
PROFILES: dict[str, dict[str, dict[str, Any]]] = {"usual": {name: {} for name in FAULTS}, "mild": _MILD, "harsh": _HARSH}


def built_in(profile: str) -> Chaos:
    """A campaign without a file: every fault, as ``profile`` has them."""
    faults = {name: {"kind": name, **settings} for name, settings in PROFILES[profile].items()}
    given = {"apiVersion": "podctl/v1", "kind": "Chaos", "name": KIND if profile == "usual" else f"{KIND}-{profile}"}
    return Chaos.model_validate({**given, "faults": faults})


def from_file(path: Path) -> Chaos:
    """Raises `SpecError`, also for a file by a built-in campaign's name: trust demands campaigns by their names."""
    chaos = load_model(path, Chaos)
    if chaos.name in {built_in(profile).name for profile in PROFILES}:
        raise SpecError(
            f"{path.name}: {chaos.name} is the name of podctl's own campaign",
            code="chaos-name",
            unchanged="nothing was made",
            hint="give it another name",
        )
    return chaos


def only(chaos: Chaos, names: Sequence[str], seed: int | None) -> Chaos:
    """The faults that are named, or all, by this seed or its own. Raises `SpecError` for a name that it does not have."""
    unknown = [name for name in names if name not in chaos.faults]
    if unknown:
        hint = f"one of {', '.join(chaos.faults)}"
        raise SpecError(f"there is no fault {unknown[0]}", code="usage", unchanged="nothing was made", hint=hint)
    kept = {name: fault for name, fault in chaos.faults.items() if not names or name in names}
    name = chaos.name if len(kept) == len(chaos.faults) else part_named(chaos.name)
    return chaos.model_copy(update={"faults": kept, "name": name, "seed": chaos.seed if seed is None else seed})


def fitted(chaos: Chaos, bundle: Bundle, backend: str) -> tuple[Chaos, list[str]]:
    """The faults that this topology and backend can have, and what each of the others lacks.

    Raises `SpecError` when none is left, or one of them names a service or database that is not there.
    """
    services, there = service_order(bundle.topology), databases(bundle.topology)
    doors = [*(() if bundle.scenario.model.mode == "none" else ("models",)), *services]
    lacking: dict[str, str] = {}
    for name, fault in chaos.faults.items():
        unknown = [door for door in getattr(fault, "where", ()) if door not in doors]
        if unknown:
            raise _refused(name, f"there is no door {unknown[0]}", f"`where` takes {', '.join(doors) or 'nothing here'}")
        if fault.kind in IN_DATABASES:
            if not there:
                lacking[name] = "the topology mirrors no database"
            elif backend != "local":
                lacking[name] = f"the {backend} backend cannot do it yet"
            elif fault.kind == "migration":
                if fault.database is not None and fault.database not in there:
                    raise _refused(name, f"there is no database {fault.database}", f"`database` takes {', '.join(there)}")
                if fault.database is None and len(there) > 1:
                    raise _refused(name, "the topology has several databases", f"say `database`: one of {', '.join(there)}")
        elif fault.kind == "clock":
            if backend != "local":
                lacking[name] = f"the {backend} backend cannot do it yet"
            elif library() is None:
                lacking[name] = "libfaketime is not here: pip install 'podctl[chaos]', or your distribution's libfaketime"
        elif fault.kind == "stale" and not services:
            lacking[name] = "the topology has no service whose answers could be stale"
        elif not doors:
            lacking[name] = "the topology has no service, and the scenario no model"
    left_out_here = [name for name, why in lacking.items() if "backend" in why or "libfaketime" in why]
    kept = {name: fault for name, fault in chaos.faults.items() if name not in lacking}
    if not kept:
        why = "\n".join(f"{name}: {reason}" for name, reason in lacking.items())
        raise SpecError(
            "no fault of this campaign can be made here", code="chaos-nothing", cause=why, unchanged="nothing was made"
        )
    notes = [f"fault {name} was not made: {reason}" for name, reason in lacking.items()]
    name = part_named(chaos.name) if left_out_here else chaos.name
    return chaos.model_copy(update={"faults": kept, "name": name}), notes


def part_named(name: str) -> str:
    """What is only part of a campaign must not pass for it where trust demands it by name."""
    return f"{name[:32]}-part"


def _refused(fault: str, what: str, hint: str) -> SpecError:
    return SpecError(f"fault {fault}: {what}", code="chaos-place", unchanged="nothing was made", hint=hint)


def vary(chaos: Chaos) -> Vary:
    """Variants ``{name, kind: the fault's, seed, data: {of, seed, faults: [settings]}}``; ``of`` is the plain attempt's id.

    Raises `SpecError`.
    """
    settings = {name: _settings(name, fault) for name, fault in chaos.faults.items()}

    def of(planned: Planned) -> list[Varied]:
        return [_varied(name, one, chaos.seed, planned) for name, one in settings.items()]

    return Vary(KIND, chaos.name, chaos.seed, of)


def _settings(name: str, fault: Any) -> dict[str, Any]:
    """All that there is to a fault, SQL of a file included: what is frozen does not change with the file. Raises `SpecError`."""
    settings: dict[str, Any] = fault.model_dump(mode="json") | {"name": name}
    if settings.get("sql") is None:
        return settings
    path = Path(settings["sql"])
    try:
        return settings | {"sql": path.name, "script": path.read_text("utf-8")}
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"fault {name}: {path.name} cannot be read", code="chaos-sql", cause=str(error), unchanged="nothing was made"
        ) from error


def _varied(name: str, settings: Mapping[str, Any], seed: int, planned: Planned) -> Varied:
    digest = hashlib.sha256(f"{seed}:{name}:{planned.ticket.id}:{planned.repeat}".encode()).digest()
    own = int.from_bytes(digest[:6], "big")
    data = {"of": planned.id, "seed": own, "faults": [dict(settings)]}
    return Varied(Variant(name, str(settings["kind"]), own, data), planned.ticket)
