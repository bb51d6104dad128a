"""How like production a run's test pods are: what is known of it, part by part. PURE.

A part's score is the mean over what it counts; each rule is one line below and in docs/fidelity.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from podctl.data.captured import CapturedSeed, CapturedTable
from podctl.evidence.results import FidelityPart
from podctl.spec.models import Database, Service, Topology
from podctl.stats.units import plural

#: Of tables, references and lines of an import so many are told one by one; what is worst comes first.
TOLD = 40
#: Rows that a sample needs for its distribution to be judged: chance alone puts 30 rows about 15 % apart from where they come from.
FEWEST = 30
_SHARES = {"imported": 1.0, "changed": 0.5, "stubbed": 0.5, "left out": 0.0}


def fidelity(
    topology: Topology,
    seeds: Mapping[str, CapturedSeed],
    servers: Mapping[str, str],
    carried: Sequence[Mapping[str, Any]] | None,
) -> tuple[FidelityPart, ...]:
    """``seeds``: of databases that have a captured one; ``servers``: the version that serves each in a pod, where known;
    ``carried``: the items of the import report that the topology came with, None when it came without.

    Parts about which there is nothing to say are left out.
    """
    parts = (
        _services(topology.services),
        _databases(topology.databases, seeds),
        _versions(seeds, servers),
        _tables(seeds),
        _references(seeds),
        _distributions(seeds),
        _configuration(carried),
        _clock(seeds),
    )
    return tuple(part for part in parts if part is not None)


def _part(name: str, found: Iterable[tuple[str, str, float | None]]) -> FidelityPart | None:
    """Of (what, how it is in the pod, its score), the worst first; None without any."""
    rows = sorted(found, key=lambda row: (row[2] is None, row[2] if row[2] is not None else 0.0))
    if not rows:
        return None
    known = [score for _, _, score in rows if score is not None]
    facts = {what: how for what, how, _ in rows[:TOLD]}
    if len(rows) > TOLD:
        facts[f"and {len(rows) - TOLD} more"] = "no worse than these"
    return FidelityPart(name, fmean(known) if known else None, facts)


def _services(services: Mapping[str, Service]) -> FidelityPart | None:
    """Mirrored 1, stubbed ½, left out 0."""
    return _part("services", ((name, *_service(service)) for name, service in services.items()))


def _service(service: Service) -> tuple[str, float]:
    if service.mode == "left-out":
        return f"left out: {service.reason}", 0.0
    if service.mode == "stubbed":
        return f"stubbed with {plural(len(service.routes), 'recorded answer')}", 0.5
    return f"mirrored from {service.image}" if service.image else "mirrored", 1.0


def _databases(databases: Mapping[str, Database], seeds: Mapping[str, CapturedSeed]) -> FidelityPart | None:
    """Captured 1, left out 0; of one that somebody filled by hand nobody can tell."""
    return _part("databases", ((name, *_database(name, database, seeds)) for name, database in databases.items()))


def _database(name: str, database: Database, seeds: Mapping[str, CapturedSeed]) -> tuple[str, float | None]:
    if database.mode == "left-out":
        return f"left out: {database.reason}", 0.0
    if name in seeds:
        return "captured", 1.0
    return "filled from files that somebody made", None


def _versions(seeds: Mapping[str, CapturedSeed], servers: Mapping[str, str]) -> FidelityPart | None:
    """The same engine and major version 1, another major version ½, another engine 0."""

    def found() -> Iterable[tuple[str, str, float | None]]:
        for name, seed in seeds.items():
            there, here = f"{seed.engine} {seed.engine_version}", servers.get(name, "")
            if not here:
                yield name, f"{there} there, not known here", None
                continue
            score = 0.0 if seed.engine != "postgresql" else 1.0 if _major(seed.engine_version) == _major(here) else 0.5
            yield name, f"{there} there, postgresql {here} here", score

    return _part("versions", found())


def _major(version: str) -> str:
    return version.split(".")[0].split(" ")[0]


def _tables(seeds: Mapping[str, CapturedSeed]) -> FidelityPart | None:
    """A table that has rows there and rows here 1, one that is empty here alone 0. How many rows is the tickets' to say."""
    return _part(
        "tables",
        (
            (
                f"{name}.{_shown(table)}",
                f"{table.rows:,} of {_there(table)} rows",
                0.0 if table.there and not table.rows else 1.0,
            )
            for name, seed in seeds.items()
            for table in seed.tables
            if table.there or table.rows
        ),
    )


def _there(table: CapturedTable) -> str:
    if table.there is None:
        return "an unknown number of"
    return f"{'' if table.there_is == 'counted' else 'about '}{table.there:,}"


def _shown(table: CapturedTable) -> str:
    return table.name if table.schema_name == "public" else f"{table.schema_name}.{table.name}"


def _references(seeds: Mapping[str, CapturedSeed]) -> FidelityPart | None:
    """The share of a table's rows that kept the reference; references that lost nothing are not told."""
    return _part(
        "references",
        (
            (f"{name}.{_shown(table)}.{reference}", f"{lost:,} of {table.rows:,} rows lost it", 1 - lost / table.rows)
            for name, seed in seeds.items()
            for table in seed.tables
            for reference, lost in table.nulled.items()
            if lost and table.rows
        ),
    )


def _distributions(seeds: Mapping[str, CapturedSeed]) -> FidelityPart | None:
    """One less the larger of how far values and how far shares of nulls are apart; of few rows that is chance, and not judged."""

    def found() -> Iterable[tuple[str, str, float | None]]:
        for name, seed in seeds.items():
            for table in seed.tables:
                if table.likeness is None:
                    continue
                looked = f"by samples of {table.likeness.here:,} and {table.likeness.there:,} rows"
                for column, one in table.likeness.columns.items():
                    nulls = abs(one.nulls_there - one.nulls_here)
                    said = [f"values {one.apart * 100:.0f} % apart"] if one.apart is not None else []
                    if one.nulls_there or one.nulls_here:
                        said.append(f"null {one.nulls_there * 100:.0f} % there, {one.nulls_here * 100:.0f} % here")
                    judged = table.likeness.here >= FEWEST
                    score = 1 - max(one.apart or 0.0, nulls) if judged else None
                    yield f"{name}.{_shown(table)}.{column}", f"{', '.join(said)}, {looked}", score

    return _part("distributions", found())


def _configuration(carried: Sequence[Mapping[str, Any]] | None) -> FidelityPart | None:
    """Lines of the source: imported 1, changed or stubbed ½, left out 0."""
    if carried is None:
        return None
    counts = Counter(str(item["status"]) for item in carried)
    shares = [_SHARES.get(status, 0.0) for status, number in counts.items() for _ in range(number)]
    facts = {f"lines {status}": f"{counts[status]:,}" for status in _SHARES if counts[status]}
    missing = [item for item in carried if item["status"] == "left out"]
    for item in missing[:TOLD]:
        name = f"{item['subject']} {item['key']}".strip()
        facts[name] = f"left out: {item['why']}" if item["why"] else "left out"
    return FidelityPart("configuration", fmean(shares) if shares else None, facts)


def _clock(seeds: Mapping[str, CapturedSeed]) -> FidelityPart | None:
    """Not scored: whether an agent minds depends on what it is asked."""
    return _part(
        "clock", ((name, f"rows of {seed.taken_at}; the pod's clock is the run's", None) for name, seed in seeds.items())
    )
