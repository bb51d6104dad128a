"""The complete spec as it takes effect, and its digest."""

from __future__ import annotations

import hashlib
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

from podctl.errors import SpecError
from podctl.spec.base import API_VERSION, Model
from podctl.spec.bundle import Bundle
from podctl.spec.models import Boundary, Seed
from podctl.spec.problems import printable, shown


def resolved(bundle: Bundle) -> dict[str, Any]:
    """Plain JSON: every default filled in (of fields younger than stored digests, only other values), amounts as text, paths relative to the scenario's directory.

    A path stays absolute when it has nothing but the file system's root in common with that directory.
    """
    base = bundle.path.parent
    parts = ("scenario", "topology", "tickets", "agent", "boundary")
    return {
        "apiVersion": API_VERSION,
        "kind": "ResolvedSpec",
        **{part: plain(getattr(bundle, part), base) for part in parts},
    }


def spec_digest(bundle: Bundle) -> str:
    """sha256 over the canonical JSON of `resolved` and the contents of every seed file, of the price lock, of the boundary's Cedar file and of approvers' keys, the agent's part left out:
    the agent has a digest of its own, and two versions are compared under the same one of these.

    Raises `SpecError` when one of these files cannot be read.
    """
    spec = {**resolved(bundle)}
    del spec["agent"]
    spec["scenario"] = {name: value for name, value in spec["scenario"].items() if name != "agent"}
    # When a run may end says nothing of what it was made of.
    spec["scenario"]["run"] = {name: value for name, value in spec["scenario"]["run"].items() if name != "fail_fast"}
    value = {"spec": spec, "seeds": [_contents(path, "seed") for path in seed_files(bundle)]}
    if bundle.scenario.model.price_lock is not None:
        value["prices"] = _contents(bundle.scenario.model.price_lock, "price lock")
    if bundle.boundary.cedar is not None:
        value["cedar"] = _contents(bundle.boundary.cedar, "Cedar file")
    if bundle.scenario.approvals is not None:
        value["people"] = {name: _contents(path, "public key") for name, path in bundle.scenario.approvals.people.items()}
    return _digest(value)


def part_digests(bundle: Bundle) -> dict[str, str]:
    """``scenario``, ``topology``, ``tickets`` and ``boundary``, each: sha256 over the canonical JSON of that part of `resolved`, the topology
    with the contents of its seed files. The agent has a digest of its own. Raises `SpecError`, as `spec_digest` does."""
    spec = resolved(bundle)
    parts = {part: _digest(spec[part]) for part in ("scenario", "tickets")}
    seeds = [_contents(path, "seed") for path in seed_files(bundle)]
    topology = _digest({"topology": spec["topology"], "seeds": seeds})
    return {**parts, "topology": topology, "boundary": boundary_digest(bundle.boundary)}


def boundary_digest(boundary: Boundary) -> str:
    """sha256 over what the boundary and its Cedar file say, wherever they lie. Raises `SpecError` when that file cannot be read."""
    value = plain(boundary.model_copy(update={"cedar": None}), Path())
    return _digest(value if boundary.cedar is None else value | {"cedar": _contents(boundary.cedar, "Cedar file")})


def seed_digests(bundle: Bundle) -> dict[str, str]:
    """Each mirrored database -> sha256 over what it is filled with. Raises `SpecError`, as `spec_digest` does."""
    mirrored = {name: one.seed for name, one in sorted(bundle.topology.databases.items()) if one.mode == "mirrored"}
    return {name: _digest([_contents(path, "seed") for path in _files(seed)]) for name, seed in mirrored.items()}


def seed_files(bundle: Bundle) -> list[Path]:
    """The seed files of the mirrored databases, in the order of the topology's names.

    Of a captured seed it is the digest of all the others, which are compared with it when they are loaded.
    """
    mirrored = [database for _, database in sorted(bundle.topology.databases.items()) if database.mode == "mirrored"]
    return [path for database in mirrored for path in _files(database.seed)]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def _files(seed: Seed) -> list[Path]:
    captured = [seed.captured / "digest"] if seed.captured else []
    return [*captured, *seed.sql, *(path for _, path in sorted(seed.csv.items()))]


def _contents(path: Path, what: str) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise SpecError(
            f"cannot read the {what} {printable(shown(path))}",
            code=f"{what.replace(' ', '-')}-unreadable",
            cause=str(error.strerror),
        ) from error


def plain(value: Any, base: Path) -> Any:
    """As plain JSON: amounts as text, paths relative to ``base``, without fields at their default that are younger than stored digests."""
    if isinstance(value, Model):
        fields = {name: getattr(value, name) for name in type(value).model_fields if not _is_absent(value, name)}
        return {name: plain(entry, base) for name, entry in fields.items()}
    if isinstance(value, dict):
        return {key: plain(entry, base) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry, base) for entry in value]
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return _relative(value, base) if isinstance(value, Path) else value


def _is_absent(value: Model, name: str) -> bool:
    return name in value.YOUNGER and getattr(value, name) == type(value).model_fields[name].get_default()


def _relative(path: Path, base: Path) -> str:
    shared = os.path.commonpath([path, base]) if path.is_absolute() else ""
    near = path.is_relative_to(base) or shared not in ("", path.anchor)
    return Path(os.path.relpath(path, base)).as_posix() if near else path.as_posix()
