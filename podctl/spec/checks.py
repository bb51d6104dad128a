"""What one file must mean beyond its shape; works on items, so that a mistake elsewhere hides nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import date

from podctl.spec.capture import Capture
from podctl.spec.chaos import Chaos
from podctl.spec.checks_approvals import check_rules
from podctl.spec.checks_boundary import check_boundary_file
from podctl.spec.checks_topology import check_topology, present
from podctl.spec.honeytokens import Honeytokens
from podctl.spec.ladder import Ladder
from podctl.spec.models import Agent, Boundary, Model, Quarantine, Scenario, Tickets, Topology
from podctl.spec.problems import Mark, Problem, printable
from podctl.spec.report import Report, check_known, check_placeholders
from podctl.spec.shape import closest
from podctl.spec.source import Document, Item
from podctl.spec.suite import Suite
from podctl.spec.tables import honeytoken_rows
from podctl.spec.volume import Volume

#: The endings of files that tickets are read from.
SOURCES = (".csv", ".json", ".jsonl", ".ndjson", ".parquet")
#: Caps that a volume may ask about.
_CAPS = 10
#: Names that a message lists.
_LISTED = 10


#: Variables that an agent, its clients or its interpreter go by (docs/agents.md), and the files of its contract.
_GIVEN = re.compile(
    r"(?:PODCTL|OTEL|LD|LC)_.*|PYTHON[A-Z]*|OPENAI_(?:API_KEY|API_BASE|BASE_URL)|ANTHROPIC_(?:API_KEY|BASE_URL)|DATABASE_URL|PATH|HOME|LANG|TZ"
)
_CONTRACT_FILES = ("ticket.json", "result.json", "decisions.jsonl")


def check(document: Document, model: type[Model], replaced: Collection[str] = ()) -> list[Problem]:
    """The problems of one file. ``replaced``: keys whose files something else stands in for, or that need not be there."""
    report = Report(document)
    if model is Topology:
        check_topology(document.root, report)
    elif model is Tickets:
        _tickets(document.root, report, replaced)
    elif model is Agent:
        _agent(document.root, report, replaced)
    elif model is Capture:
        _capture(document.root, report)
    elif model is Volume:
        _volume(document.root, report)
    elif model is Scenario:
        _scenario(document.root, report, replaced)
    elif model is Quarantine:
        _quarantine(document.root, report)
    elif model is Boundary:
        report.problems += check_boundary_file(document)
    elif model is Suite:
        report.path(document.root.get("scenario"), "file")
        for _, key in document.root.mapping("reviewers").values():
            report.path(key, "file", "podctl audit key show prints a public key")
    elif model is Chaos:
        for _, fault in document.root.mapping("faults").values():
            report.path(fault.get("sql"), "file", "SQL that is applied while the agent works")
    elif model is Ladder:
        for _, key in document.root.mapping("people").values():
            report.path(key, "file", "podctl audit key show prints a public key")
    return report.problems


def _quarantine(root: Item, report: Report) -> None:
    """Nobody looks at a ticket in quarantine unless it comes back by itself."""
    today = date.today()
    for name, (_, entry) in root.mapping("tickets").items():
        day = entry.get("expires")
        if day is None or not isinstance(day.value, str):
            continue
        try:
            last = date.fromisoformat(day.value)
        except ValueError:
            report.add(day.at, f"there is no day {printable(day.value, 40)}", "a day such as 2026-03-31")
            continue
        if last < today:
            report.add(
                day.at,
                f"the quarantine of ticket {printable(name, 60)} ended on {last}",
                "remove the entry, and the ticket counts again; or let its owner set a later `expires`",
            )


def _tickets(root: Item, report: Report, replaced: Collection[str]) -> None:
    source, pull = root.get("source"), root.get("pull")
    pulled = pull is not None and pull.entries is not None
    endings = (".jsonl",) if pulled else SOURCES
    if source is not None and isinstance(source.value, str) and not source.value.lower().endswith(endings):
        expected = (
            "a .jsonl file, which podctl tickets pull writes" if pulled else f"a {', '.join(SOURCES[:-1])} or .parquet file"
        )
        report.add(source.at, f"expected {expected}", "the ending says how the file is read")
    elif "source" not in replaced:
        report.path(source, "file", hint="podctl tickets pull writes it" if pulled else "")
    for kind, (_, item) in (pull.entries or {}).items() if pull is not None else ():
        if item.entries is not None:
            _pulled_from(kind, item, report)


def _pulled_from(kind: str, item: Item, report: Report) -> None:
    """What a URL must not have, and what a query would lose."""
    url = item.get("url")
    if url is not None and isinstance(url.value, str):
        if kind != "sql" and not re.match(r"https?://[^\s/@?#]+(/[^\s@?#]*)?$", url.value):
            report.add(url.at, "expected https://HOST, without a user, a query or a fragment")
        elif kind == "sql" and re.match(r"[^:/]+://[^/@]*:[^/@]+@", url.value):
            report.add(url.at, "a password stands in the URL", "name an environment variable that has it: password_env")
        elif kind == "sql" and not re.match(r"[a-z][a-z0-9_]*(\+[a-z0-9_]+)?://", url.value):
            report.add(url.at, "expected a URL as SQLAlchemy has it, such as postgresql://USER@HOST/DATABASE")
    for key, unfit in (("jql", r"(?i)\border\s+by\b"), ("query", r"\^NQ|ORDERBY")):
        query = item.get(key)
        if (
            kind in ("jira", "servicenow")
            and query is not None
            and isinstance(query.value, str)
            and re.search(unfit, query.value)
        ):
            report.add(
                query.at,
                "expected a query without ^NQ and without an order" if key == "query" else "expected JQL without ORDER BY",
                "podctl puts them in an order that nothing is lost by",
            )


def _agent(root: Item, report: Report, replaced: Collection[str]) -> None:
    for key, kind in (("directory", "directory"), ("prompt", "file")):
        if key not in replaced:
            report.path(root.get(key), kind)
    if "read_only" not in replaced:
        for path in root.list("read_only"):
            report.path(path, "any")
    for word in root.list("command"):
        check_placeholders(word, {"python": True}, report)


def _scenario(root: Item, report: Report, replaced: Collection[str]) -> None:
    for role in ("topology", "tickets", "agent", "boundary", "quarantine"):
        if role not in replaced:
            report.path(root.get(role), "file")
    _sample(root, report)
    _upstream(root, report)
    _approvals(root, report)
    seen: dict[str, Mark] = {}
    for item in root.list("checks"):
        kind = item.text("kind", "")
        name = item.text("name", "state" if kind == "state" else "")
        at = entry.at if (entry := item.get("name")) is not None else item.at
        if name and name in seen:
            report.add(at, f"two checks have the same name, `{printable(name, 60)}`; the other is at line {seen[name].line}")
        elif name:
            seen[name] = at
        if kind == "output":
            _output_check(item, report)
        elif kind == "sql" and "ticket" in item.mapping("parameters"):
            report.add(
                item.mapping("parameters")["ticket"][0], "`ticket` is the ticket's id", "give the parameter another name"
            )
        elif kind == "command":
            report.path(item.get("directory"), "directory")
            for word in item.list("command"):
                check_placeholders(word, {"python": True}, report)


def _approvals(root: Item, report: Report) -> None:
    approvals = root.get("approvals")
    if approvals is None:
        return
    for _, key in approvals.mapping("people").values():
        report.path(key, "file", "podctl audit key show prints a public key")
    check_rules(root, approvals, report.add)


def _sample(root: Item, report: Report) -> None:
    sample = root.get("sample")
    if sample is None:
        return
    design = sample.text("design", "proportional")
    if design == "neyman" and sample.get("prior") is None:
        at = entry.at if (entry := sample.get("design")) is not None else sample.at
        report.add(at, "design neyman needs a prior", "add prior: with pass_rates, deviations or a result")
    prior = sample.get("prior")
    if prior is not None:
        report.path(prior.get("result"), "file")
    if sample.text("part", "open") == "held-out" and sample.get("held_out") is None:
        report.add(sample.at, "part held-out needs held_out", "add held_out: with a share and a key")
    included = {item.value for item in sample.list("include") if isinstance(item.value, str)}
    for item in sample.list("exclude"):
        if isinstance(item.value, str) and item.value in included:
            report.add(item.at, f"`{printable(item.value, 60)}` is included and excluded", "keep it in one of the lists")


def _upstream(root: Item, report: Report) -> None:
    model = root.get("model")
    if model is None or model.entries is None:
        return
    mode = model.text("mode", "none")
    at = entry.at if (entry := model.get("mode")) is not None else model.at

    def given(key: str) -> bool:
        item = model.get(key)
        return item is not None and item.value is not None

    for key in ("openai_url", "anthropic_url"):
        url = model.get(key)
        if url is not None and isinstance(url.value, str) and not re.match(r"https?://[^\s/]", url.value):
            report.add(url.at, "expected a URL with http:// or https://")
    if mode in ("live", "record") and not (given("openai_url") or given("anthropic_url")):
        report.add(at, f"mode {mode} needs openai_url or anthropic_url", "add the base URL model calls go to")
    if mode in ("record", "replay") and not given("recordings"):
        report.add(at, f"mode {mode} needs recordings", "add recordings: with a directory")
    if mode == "scripted" and not given("script"):
        report.add(at, "mode scripted needs script", "add script: with a YAML file of patterns and answers")
    if mode == "scripted":
        report.path(model.get("script"), "file")
    if mode == "replay":
        report.path(model.get("recordings"), "directory")
    if given("price_lock"):
        report.path(model.get("price_lock"), "file")


def _output_check(item: Item, report: Report) -> None:
    ways = ("equals", "matches", "reference")
    given = [way for way in ways if (entry := item.get(way)) is not None and entry.value is not None]
    if len(given) != 1:
        found = " and ".join(given) if given else "none"
        report.add(item.at, f"expected exactly one of equals, matches and reference, found {found}")
    pattern = item.get("matches")
    if pattern is not None and isinstance(pattern.value, str):
        _compiles(pattern, pattern.value, report.add)


def _capture(root: Item, report: Report) -> None:
    """Not whether the Masking file is there: it is proposed from this one."""
    tickets = root.get("tickets")
    if tickets is not None:
        report.path(tickets.get("file"), "file")
        for named in tickets.list("rows"):
            pattern = named.get("match")
            if pattern is not None and isinstance(pattern.value, str):
                _compiles(pattern, pattern.value, report.add)
    if root.text("masking", "") and root.text("unmasked", "") and root.entries is not None:
        report.add(root.entries["unmasked"][0], "masking and unmasked are both given", "keep one of them")


def _volume(root: Item, report: Report) -> None:
    of_population = root.text("of", "future") == "population"
    given = [name for name in ("tickets", "strata") if root.get(name) is not None]
    if of_population:
        for name in [name for name in ("tickets", "strata", "periods", "growth", "uncertainty") if root.get(name) is not None]:
            report.add(_at(root, name), f"`{name}` is for future tickets: of the population every ticket is known")
    elif len(given) != 1:
        at = _at(root, given[1]) if given else root.at
        report.add(at, f"expected `tickets` or `strata`, found {'both' if given else 'neither'}")
    if len(root.list("caps")) > _CAPS:
        report.add(_at(root, "caps"), f"expected at most {_CAPS} caps, found {len(root.list('caps'))}")
    people, baseline = root.get("people"), root.get("baseline")
    if baseline is not None and baseline.entries is not None:
        ways = [name for name in ("time", "strata", "tickets") if baseline.get(name) is not None]
        if len(ways) != 1:
            found = " and ".join(ways) or "none"
            report.add(_at(root, "baseline"), f"expected exactly one of time, strata, tickets; given: {found}")
        if (tickets := baseline.get("tickets")) is not None:
            report.path(tickets.get("file"), "file")
    rework = root.get("rework")
    if rework is not None and rework.get("time") is not None and people is None:
        report.add(_at(root, "rework"), "a person's time has no price without people.dollars_per_hour", "add people:")


def check_strata(document: Document, population: Collection[str]) -> list[Problem]:
    """A volume's strata against those of a run's population: each named once, none that only the volume knows, unless `like` one."""
    report, root = Report(document), document.root
    strata = root.mapping("strata")
    for name, (at, item) in strata.items():
        like = item.get("like")
        if like is None and name not in population:
            hint = closest(name, population) or f"add like: with one of the run's: {_listed(population)}"
            report.add(at, f"the run's population has no stratum `{printable(name, 60)}`", hint)
        elif like is not None and isinstance(like.value, str) and like.value not in population:
            hint = closest(like.value, population) or f"one of {_listed(population)}"
            report.add(like.at, f"the run's population has no stratum `{printable(like.value, 60)}`", hint)
    if strata and (missing := [name for name in population if name not in strata]):
        report.add(_at(root, "strata"), f"nothing is said of {_listed(missing)}", "write 0 where no such tickets will come")
    baseline = root.get("baseline")
    for name, (at, _) in ({} if baseline is None else baseline.mapping("strata")).items():
        if name not in population and name not in strata:
            hint = closest(name, population)
            report.add(at, f"neither the run nor the volume has a stratum `{printable(name, 60)}`", hint)
    return report.problems


def _listed(names: Collection[str]) -> str:
    some = [printable(name, 60) for name in list(names)[:_LISTED]]
    return ", ".join(some) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _at(root: Item, name: str) -> Mark:
    return root.entries[name][0] if root.entries is not None and name in root.entries else root.at


def _compiles(item: Item, pattern: str, add: Callable[[Mark, str], None]) -> None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        add(item.at, f"not a regular expression: {printable(str(error) or 'nested too deeply')}")


def _check_honeytokens(scenario: Document, doors: Collection[str], agent: Document | None, report: Report) -> None:
    """None in the place of what an agent needs: an attempt would fail for it, and the agent's own work look like a leak."""
    asked = scenario.root.get("honeytokens")
    if asked is None:
        return
    set_by_agent = {} if agent is None else agent.root.mapping("environment")
    urls = {f"{name.upper().replace('-', '_')}_URL" for name in doors}
    unsaid = [] if asked.get("environment") is not None else [(asked.at, name) for name in Honeytokens().environment]
    for at, name in [*((item.at, str(item.value)) for item in asked.list("environment")), *unsaid]:
        if name in urls or name in set_by_agent or _GIVEN.fullmatch(name):
            report.add(at, f"the agent gets {printable(name, 80)} already, and needs it", "name a variable that nothing uses")
    for item in asked.list("files"):
        if item.value in _CONTRACT_FILES:
            report.add(item.at, f"{item.value} is one of the files by which an agent works", "name a file that nothing uses")


def check_across(
    scenario: Document, topology: Document | None, boundary: Document | None, agent: Document | None
) -> list[Problem]:
    """Names in one file that another must have; a file that could not be read is passed over."""
    if topology is None:
        return []
    databases = {name: there for name, there in present(topology.root).items() if name in topology.root.mapping("databases")}
    listed = topology.root.mapping("services")
    of_tools = {name: service.text("protocol", "http") == "mcp" for name, (_, service) in listed.items()}
    services = {name: there for name, there in present(topology.root).items() if name in topology.root.mapping("services")}
    problems = []
    if boundary is not None:
        report = Report(boundary)
        for name, (at, item) in boundary.root.mapping("databases").items():
            check_known(item, name, databases, "database", report, at)
        for name, (at, item) in boundary.root.mapping("services").items():
            check_known(item, name, services, "service", report, at)
            if of_tools.get(name):
                shown = printable(name, 60)
                report.add(
                    at,
                    f"`{shown}` is an MCP server: what is decided is its tools",
                    f"write it under tools: `{shown}: {{TOOL: LEVEL}}`",
                )
        servers = {name: there for name, there in services.items() if of_tools[name]}
        for name, (at, item) in boundary.root.mapping("tools").items():
            check_known(item, name, servers, "MCP server", report, at)
        problems += report.problems
    if agent is not None:
        report = Report(agent)
        for tool in agent.root.list("tools"):
            if isinstance(tool.value, str):
                check_known(tool, tool.value, services, "service", report)
        servers = {name: there for name, there in services.items() if of_tools[name]}
        for name, (at, item) in agent.root.mapping("routing").items():
            check_known(item, name.partition(".")[0], servers, "MCP server", report, at)
        problems += report.problems
    report = Report(scenario)
    for item in scenario.root.list("checks"):
        named = item.get("database") if item.text("kind", "") == "sql" else None
        if named is not None and isinstance(named.value, str):
            check_known(named, named.value, databases, "database", report)
    for name, (at, item) in honeytoken_rows(scenario).items():
        check_known(item, name, databases, "database", report, at)
    _check_honeytokens(scenario, {*services, *databases}, agent, report)
    return problems + report.problems
