"""What a Capture file asks for, against the tables that the source really has. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from podctl.capture.schema import Edge, Schema, Table
from podctl.spec.capture import Capture, Children, DeclaredEdge
from podctl.spec.shape import closest

#: Where in the file: keys and positions from its root.
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Rules:
    """``children``: (reference, cap). Tables by the name that is shown; ``edges`` lead to tables that the copy has."""

    tables: Mapping[str, Table]
    edges: tuple[Edge, ...] = ()
    children: tuple[tuple[Edge, int], ...] = ()
    whole: frozenset[str] = frozenset()
    empty: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()
    dropped: tuple[Edge, ...] = ()  # references to tables that the copy does not have
    depth: int = 1
    rows: int = 1_000_000
    table_rows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Mistake:
    place: Place
    message: str
    hint: str = ""


def resolve(spec: Capture, schema: Schema) -> tuple[Rules, list[Mistake]]:
    """The rules, and everything in the file that the source does not have."""
    reader = _Reader(schema)
    left_out = reader.matching("leave_out", spec.leave_out)
    tables = {name: table for name, table in schema.tables.items() if name not in left_out}
    reader.tables = tables
    empty = reader.matching("empty", spec.empty)
    whole = reader.matching("whole", spec.whole) - empty
    declared = [edge for number, one in enumerate(spec.edges) if (edge := reader.declared(number, one)) is not None]
    every = [*schema.edges, *declared]
    edges = [edge for edge in every if edge.child in tables and edge.parent in tables]
    edges = reader.following(edges, spec.parents.follow)
    children = [found for number, one in enumerate(spec.children) if (found := reader.child(number, one, edges)) is not None]
    limits = {}
    for name, limit in spec.budget.tables.items():
        if table := reader.table(("budget", "tables", name), name):
            limits[table.shown] = limit
    for number, named in enumerate(spec.tickets.rows if spec.tickets else ()):
        reader.columns(("tickets", "rows", number), named.table, [("column", named.column)])
    rules = Rules(
        tables,
        tuple(edges),
        tuple(children),
        whole,
        empty,
        left_out,
        tuple(edge for edge in every if edge.child in tables and edge.parent not in tables),
        spec.parents.depth,
        spec.budget.rows,
        limits,
    )
    return rules, [*reader.mistakes, *_contradictions(rules)]


def _contradictions(rules: Rules) -> Iterable[Mistake]:
    for edge in rules.edges:
        if edge.follow == "required" and edge.parent in rules.empty and edge.child in rules.whole:
            yield Mistake(
                ("empty",),
                f"{edge.parent} is to be empty, but every row of {edge.child} must have one ({edge.label})",
                f"take {edge.child} empty too, or {edge.parent} not",
            )


class _Reader:
    def __init__(self, schema: Schema) -> None:
        self.tables: Mapping[str, Table] = schema.tables
        self.mistakes: list[Mistake] = []

    def table(self, place: Place, name: str) -> Table | None:
        found = self.tables.get(name.removeprefix("public."))
        if found is None:
            self.mistakes.append(Mistake(place, f"the source has no table {name}", _like(name, self.tables)))
        return found

    def matching(self, key: str, patterns: Sequence[str]) -> frozenset[str]:
        found: set[str] = set()
        for number, pattern in enumerate(patterns):
            names = {name for name in self.tables if fnmatchcase(name, pattern.removeprefix("public."))}
            if not names:
                self.mistakes.append(Mistake((key, number), f"the source has no table {pattern}", _like(pattern, self.tables)))
            found |= names
        return frozenset(found)

    def columns(self, place: Place, name: str, columns: Iterable[tuple[str | int, str]]) -> Table | None:
        """The table, when it has all these columns; ``columns``: (key in the file below ``place``, name)."""
        table = self.table((*place, "table"), name)
        if table is None:
            return None
        known = [column.name for column in table.columns]
        wrong = [(key, column) for key, column in columns if column not in known]
        for key, column in wrong:
            self.mistakes.append(Mistake((*place, key), f"{table.shown} has no column {column}", _like(column, known)))
        return None if wrong else table

    def declared(self, number: int, one: DeclaredEdge) -> Edge | None:
        place = ("edges", number)
        child = self.columns(place, one.table, [("columns", name) for name in (*one.columns,)])
        child = child and self.columns(place, one.table, [("when", name) for name in one.when])
        parent = self.table((*place, "of"), one.of)
        known = [column.name for column in parent.columns] if parent else []
        missing = [name for name in one.to if name not in known]
        if parent is None or child is None:
            return None
        for name in missing:
            self.mistakes.append(Mistake((*place, "to"), f"{parent.shown} has no column {name}", _like(name, known)))
        if len(one.to) != len(one.columns):
            self.mistakes.append(
                Mistake((*place, "to"), f"{len(one.columns)} columns refer to {len(one.to)}", "as many of one as of the other")
            )
        elif not missing:
            return Edge(
                child.shown,
                one.columns,
                parent.shown,
                one.to,
                when=tuple(sorted(one.when.items())),
                child_id=child.id,
                parent_id=parent.id,
                trusted=False,
                checked=False,
            )
        return None

    def following(self, edges: list[Edge], follow: Mapping[str, str]) -> list[Edge]:
        """The edges with what the file says of single references."""
        result = list(edges)
        for written, how in follow.items():
            name = written.removeprefix("public.")
            hits = [n for n, edge in enumerate(result) if name in {f"{edge.child}.{column}" for column in edge.columns}]
            place = ("parents", "follow", written)
            if not hits:
                known = sorted({f"{edge.child}.{column}" for edge in edges for column in edge.columns})
                self.mistakes.append(Mistake(place, f"no reference is by {written}", _like(name, known)))
            for number in hits:
                edge = result[number]
                if edge.follow == "required" and how == "never":
                    message = f"{edge.label} cannot be empty, so its {edge.parent} must be taken"
                    self.mistakes.append(Mistake(place, message, f"take fewer rows of {edge.child} instead"))
                elif edge.follow != "required":
                    result[number] = replace(edge, follow="always" if how == "always" else "never")
        return result

    def child(self, number: int, one: Children, edges: Sequence[Edge]) -> tuple[Edge, int] | None:
        place = ("children", number)
        child = self.columns(place, one.table, [("columns", name) for name in one.columns])
        parent = self.table((*place, "of"), one.of)
        if child is None or parent is None:
            return None
        between = [edge for edge in edges if edge.child == child.shown and edge.parent == parent.shown]
        fitting = [edge for edge in between if not one.columns or edge.columns == one.columns]
        if len(fitting) == 1:
            return fitting[0], one.cap
        ways = "; ".join(f"columns: [{', '.join(edge.columns)}]" for edge in between)
        if not fitting:
            hint = f"known: {ways}" if between else "declare it under edges"
            message = f"no reference from {child.shown} to {parent.shown}" + (" is by these columns" if one.columns else "")
        else:
            message, hint = f"{len(fitting)} references lead from {child.shown} to {parent.shown}", f"say which: {ways}"
        self.mistakes.append(Mistake(place, message, hint))
        return None


def _like(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    return closest(word.removeprefix("public."), names) or f"it has {', '.join(names[:12]) or 'none'}"
