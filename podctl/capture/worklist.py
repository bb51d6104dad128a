"""Which rows are taken: those that tickets name, what they cannot do without, and what was declared. PURE but for the source.

Rows wait in batches by table and by how they came, and each is worked once, so cycles and self-references need no case of their
own. Batches nearest to the tickets go first: a row is first met with the fewest references that may be empty behind it.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol

from podctl.capture.problems import CaptureProblem
from podctl.capture.rules import Rules
from podctl.capture.schema import Edge

#: Rows as the source tells them apart: PostgreSQL's place in the file, elsewhere the key's values.
Rowid = int | tuple[object, ...]
#: One step by which rows came: a child's row to its parent ("parent"), or a parent's row to its children ("children").
Step = tuple[Edge, str]
BATCH = 5_000


class Source(Protocol):
    """Rows by reference, in sets. ``rows`` None means every row of the table. Each may raise `CaptureProblem`."""

    def parents(self, edge: Edge, rows: Sequence[Rowid] | None, limit: int) -> tuple[set[Rowid], bool]:
        """The parents of these rows, at most ``limit`` when every row is asked for; whether some have a parent that is not there."""
        ...

    def children(self, edge: Edge, rows: Sequence[Rowid], cap: int) -> tuple[set[Rowid], int]:
        """At most ``cap`` children a row; and how many more there are."""
        ...

    def without_parent(
        self, edge: Edge, rows: Sequence[Rowid] | None, taken: Callable[[Rowid], bool]
    ) -> tuple[list[Rowid], int]:
        """Those of these rows whose parent is not taken; and how many of them the source itself has no parent for."""
        ...


@dataclass
class Flow:
    """What came by one step: ``rows`` new ones, of ``found`` in all; ``beyond`` children were above the cap."""

    rows: int = 0
    found: int = 0
    beyond: int = 0


@dataclass
class Subset:
    """``taken``: table -> rows, None for all of them. ``nulled``: (reference, rows of its child that lose it)."""

    taken: dict[str, set[Rowid] | None] = field(default_factory=dict)
    named: Counter[str] = field(default_factory=Counter)
    flows: dict[Step, Flow] = field(default_factory=dict)
    nulled: list[tuple[Edge, list[Rowid]]] = field(default_factory=list)
    #: Rows that a row of each step's kind brought, by the step before it: where the chain of a budget's breach is read from.
    came_by: dict[Step, Counter[Step | None]] = field(default_factory=dict)
    dangling: dict[str, int] = field(default_factory=dict)  # reference -> rows whose parent the source does not have

    def has(self, table: str) -> Callable[[Rowid], bool]:
        rows = self.taken.get(table, set())
        return (lambda _: True) if rows is None else rows.__contains__

    @property
    def rows(self) -> int:
        """Rows known one by one; tables taken whole are not counted."""
        return sum(len(rows) for rows in self.taken.values() if rows is not None)


@dataclass(order=True)
class _Batch:
    """``rows`` of ``table`` that came by ``by``; with ``edge``, whose turn for their parents by it has come."""

    hops: int
    number: int
    table: str = field(compare=False)
    rows: list[Rowid] = field(compare=False)
    by: Step | None = field(compare=False)
    edge: Edge | None = field(compare=False, default=None)


def subset(rules: Rules, source: Source, named: Mapping[str, Iterable[Rowid]]) -> Subset:
    """Close over ``named`` (table -> rows). Raises `CaptureProblem` when a budget does not suffice."""
    work = _Worklist(rules, source)
    for table in sorted(rules.whole):
        work.take_whole(table)
    for table, rows in sorted(named.items()):
        work.name(table, rows)
    work.run()
    work.cut()
    return work.result


class _Worklist:
    def __init__(self, rules: Rules, source: Source) -> None:
        self.result = Subset()
        self._rules, self._source = rules, source
        self._heap: list[_Batch] = []
        self._numbers = count()
        self._parents: dict[str, list[Edge]] = defaultdict(list)
        for edge in rules.edges:
            self._parents[edge.child].append(edge)
        self._children: dict[str, list[tuple[Edge, int]]] = defaultdict(list)
        for edge, cap in rules.children:
            self._children[edge.parent].append((edge, cap))

    def take_whole(self, table: str) -> None:
        self.result.taken[table] = None
        self._push(table, [], 0, None)

    def name(self, table: str, rows: Iterable[Rowid]) -> None:
        if table in self._rules.empty:
            raise CaptureProblem(
                f"tickets name rows of {table}, which is to be empty",
                code="capture-contradiction",
                hint=f"take {table} from empty:, or out of tickets.rows",
            )
        new = self._new(table, rows)
        self.result.named[table] += len(new)
        self._keep(table, new, 0, None)

    def run(self) -> None:
        while self._heap:
            batch = heapq.heappop(self._heap)
            # Batches that came the same way are one query; a breach of a budget is noticed as soon as it is there.
            while self._heap and self._mergeable(batch, self._heap[0]):
                batch = replace(batch, rows=batch.rows + heapq.heappop(self._heap).rows)
            self._work(batch)

    def _mergeable(self, one: _Batch, other: _Batch) -> bool:
        same = (one.hops, one.table, one.by, one.edge) == (other.hops, other.table, other.by, other.edge)
        return same and len(one.rows) + len(other.rows) <= BATCH

    def _work(self, batch: _Batch) -> None:
        rows = None if self.result.taken[batch.table] is None else batch.rows
        if batch.edge is not None:
            self._take_parents(batch.edge, rows, batch.hops, batch.by)
            return
        for edge in self._parents[batch.table]:
            if edge.parent in self._rules.empty:
                self._refuse_empty(edge)
            elif edge.follow == "required":
                self._take_parents(edge, rows, batch.hops, batch.by)
            elif edge.follow == "always" or (edge.follow == "depth" and batch.hops < self._rules.depth):
                # Not before everything nearer to the tickets: a row counts from where it is nearest.
                self._push(batch.table, batch.rows, batch.hops + 1, batch.by, edge)
        for edge, cap in self._children[batch.table]:
            if rows is not None and edge.child not in self._rules.empty:
                self._take_children(edge, rows, cap, batch)

    def _refuse_empty(self, edge: Edge) -> None:
        if edge.follow == "required":
            raise CaptureProblem(
                f"{edge.parent} is to be empty, but rows of {edge.child} that are taken must have one ({edge.label})",
                code="capture-contradiction",
                hint=f"take {edge.parent} from empty:, or put {edge.child} there too",
            )

    def _take_parents(self, edge: Edge, rows: list[Rowid] | None, hops: int, by: Step | None) -> None:
        if edge.parent in self.result.taken and self.result.taken[edge.parent] is None:
            return
        found, dangling = self._source.parents(edge, rows, self._room(edge.parent) + 1)
        if dangling and edge.follow == "required" and edge.checked:
            raise CaptureProblem(
                f"rows of {edge.child} refer to rows of {edge.parent} that cannot be seen",
                code="capture-source-broken",
                cause=f"{edge.label} must have a {edge.parent}; the source broke its own reference, or hides rows from this user",
                hint=f"look for rows of {edge.child} without one; a copy of them could not have the reference",
            )
        self._arrived(edge, "parent", found, hops, by)

    def _take_children(self, edge: Edge, rows: list[Rowid], cap: int, batch: _Batch) -> None:
        if edge.child in self.result.taken and self.result.taken[edge.child] is None:
            return
        found, beyond = self._source.children(edge, rows, cap)
        self._arrived(edge, "children", found, batch.hops, batch.by)
        self.result.flows[edge, "children"].beyond += beyond

    def _arrived(self, edge: Edge, how: str, found: set[Rowid], hops: int, by: Step | None) -> None:
        step, table = (edge, how), edge.parent if how == "parent" else edge.child
        flow = self.result.flows.setdefault(step, Flow())
        new = self._new(table, found)
        flow.found += len(found)
        flow.rows += len(new)
        self.result.came_by.setdefault(step, Counter())[by] += len(new)
        self._keep(table, new, hops, step)

    def _new(self, table: str, rows: Iterable[Rowid]) -> list[Rowid]:
        taken = self.result.taken.setdefault(table, set())
        return [] if taken is None else [row for row in dict.fromkeys(rows) if row not in taken]

    def _keep(self, table: str, new: list[Rowid], hops: int, by: Step | None) -> None:
        if not new:
            return
        taken = self.result.taken[table]
        assert taken is not None
        taken.update(new)
        self._within_budget(table, by)
        for start in range(0, len(new), BATCH):
            self._push(table, new[start : start + BATCH], hops, by)

    def _push(self, table: str, rows: list[Rowid], hops: int, by: Step | None, edge: Edge | None = None) -> None:
        heapq.heappush(self._heap, _Batch(hops, next(self._numbers), table, rows, by, edge))

    def _room(self, table: str) -> int:
        taken = self.result.taken.get(table)
        own = self._rules.table_rows.get(table, self._rules.rows) - len(taken or ())
        return max(0, min(own, self._rules.rows - self.result.rows))

    def _within_budget(self, table: str, by: Step | None) -> None:
        taken = self.result.taken[table]
        limit = self._rules.table_rows.get(table)
        if limit is not None and taken is not None and len(taken) > limit:
            raise over_budget(self.result, f"{limit:,} rows of {table} (budget.tables.{table})", table)
        if self.result.rows > self._rules.rows:
            brought = Counter[str]()
            for step, flow in self.result.flows.items():
                brought[lands(step)] += flow.rows
            largest = max(brought, key=lambda name: brought[name], default=table)
            raise over_budget(self.result, f"{self._rules.rows:,} rows (budget.rows)", largest)

    def cut(self) -> None:
        """Find what refers to rows that are not taken and may be emptied."""
        for edge in self._rules.edges:
            rows = self.result.taken.get(edge.child, set())
            if rows is not None and not rows:
                continue
            whole = self.result.taken.get(edge.parent, set()) is None
            if edge.follow == "required" or (whole and edge.trusted) or (edge.declared and not edge.nulls):
                continue
            lost, dangling = self._source.without_parent(
                edge, None if rows is None else sorted(rows), self.result.has(edge.parent)
            )
            if dangling:
                self.result.dangling[edge.label] = dangling
            if lost:
                self.result.nulled.append((edge, lost))


def over_budget(result: Subset, budget: str, table: str) -> CaptureProblem:
    chain = guilty_chain(result, table)
    lines = ["the rows came by:", f"  tickets name {sum(result.named.values()):,} rows"]
    lines += [f"  {described(step)}: {result.flows[step].rows:,} rows" for step in chain]
    return CaptureProblem(
        f"the capture would take more than {budget}",
        code="capture-budget",
        cause="\n".join(lines),
        unchanged="nothing was made",
        hint=_advice(result, chain) + f"\nor raise the budget, if {table} is worth it",
    )


def lands(step: Step) -> str:
    """The table that rows came to."""
    return step[0].parent if step[1] == "parent" else step[0].child


def guilty_chain(result: Subset, table: str) -> list[Step]:
    """From the tickets to ``table``, each step the one that brought most rows of the step after it."""
    arriving = [step for step in result.flows if lands(step) == table]
    chain: list[Step] = []
    step: Step | None = max(arriving, key=lambda one: result.flows[one].rows, default=None)
    while step is not None and step not in chain:
        chain.append(step)
        sources = result.came_by[step]
        step = max(sources, key=lambda one: sources[one], default=None)
    return chain[::-1]


def described(step: Step) -> str:
    edge, how = step
    if how == "children":
        return f"{edge.child} of {edge.parent} ({edge.label}, declared under children)"
    needed = {"required": "always needed", "always": "followed always"}.get(edge.follow, "may be empty")
    return f"{edge.parent} of {edge.child} ({edge.label}, {needed})"


def _advice(result: Subset, chain: Sequence[Step]) -> str:
    cuttable = [step for step in chain if step[1] == "children" or step[0].follow != "required"]
    if not cuttable:
        return "no reference on the way may be empty: name fewer rows, or take a smaller sample"
    # The one that spares most rows for each that it brings itself; of equals, the one nearest to where there are too many.
    cheapest = max(cuttable, key=lambda step: (_spared(result, step) / max(1, result.flows[step].rows), chain.index(step)))
    edge, how = cheapest
    spared = f"about {_spared(result, cheapest):,.0f} of these rows came by it"
    if how == "children":
        return f"cheapest to cut: a lower cap for {edge.child} of {edge.parent} under children, or none of them; {spared}"
    return f"cheapest to cut: parents: {{follow: {{{edge.child}.{edge.columns[0]}: never}}}}; {spared}"


def _spared(result: Subset, step: Step) -> float:
    """Rows that came by the step, and by those that followed from them, each for its share."""
    share = {step: 1.0}
    waiting = [step]
    while waiting:
        one = waiting.pop()
        for after, sources in result.came_by.items():
            if after not in share and sources[one]:
                share[after] = share[one] * sources[one] / max(1, result.flows[after].rows)
                waiting.append(after)
    return sum(part * result.flows[one].rows for one, part in share.items())
