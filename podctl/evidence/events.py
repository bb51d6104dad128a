"""One record as a person reads it: a label, a line of text, and more lines where one is not enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from podctl.evidence import processes
from podctl.evidence.calls import dollars_of, is_start, items, mapping, number, tokens_of
from podctl.evidence.records import Record, Tokens
from podctl.evidence.rowproposals import column_lines, write_line
from podctl.evidence.safe import printable, printable_value

_TEXT = 2000  # characters of one value kept; the width of the page cuts further
_COMMAND = 300  # of a process's arguments


@dataclass(frozen=True)
class Said:
    """All text is printable."""

    label: str
    text: str
    more: tuple[str, ...] = ()

    def lines(self) -> str:
        return "\n".join((self.text, *self.more))


def describe(record: Record) -> Said:
    """What the record says; one cut for its size, or of an unknown kind, says that."""
    if "truncated" in record.data:
        return Said(
            record.kind, f"a record of {text(record.data['truncated'])} bytes, cut: {text(record.data.get('start'), 200)}"
        )
    if "unencodable" in record.data:
        return Said(record.kind, f"could not be recorded: {text(record.data['unencodable'])}")
    said = _BY_KIND.get(record.kind)
    return said(record) if said else Said(record.kind, printable_value(record.data, _TEXT))


def text(value: object, limit: int = _TEXT) -> str:
    return "" if value is None else printable(str(value), limit)


def money(amount: Decimal | None) -> str:
    """At least cents; smaller amounts as far as they have digits, to a millionth."""
    if amount is None:
        return "cost unknown"
    digits = f"{amount:.6f}".rstrip("0")
    whole, _, rest = digits.partition(".")
    return f"${whole}.{rest:0<2}"


def tokens_text(tokens: Tokens | None) -> str:
    if tokens is None:
        return "tokens unknown"
    cached = f" ({tokens.cache_read:,} cached)" if tokens.cache_read else ""
    thought = f" ({tokens.reasoning:,} reasoning)" if tokens.reasoning else ""
    into, out = tokens.input + tokens.cache_read + tokens.cache_write, tokens.output + tokens.reasoning
    return f"{into:,} tokens in{cached}, {out:,} out{thought}"


def duration(ms: object) -> str:
    found = number(ms)
    if found is None:
        return ""
    return f"{found / 1000:.2f} s" if found >= 1000 else f"{found:.3g} ms"


def listed(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def pairs(value: dict[str, Any], limit: int = 200) -> str:
    return ", ".join(f"{text(name)}={printable_value(item, limit)}" for name, item in value.items())


def _start(record: Record) -> Said:
    data, agent = record.data, mapping(record.data.get("agent"))
    who = f"{text(agent.get('name'))} {text(agent.get('version'))}".strip()
    pod = f"pod {text(data.get('pod'))}" if data.get("pod") else ""
    variant = mapping(data.get("variant"))
    more = (f"variant: {text(variant.get('name'), 200)}",) if variant else ()
    return Said("start", listed(f"ticket {text(data.get('ticket'))}", who, pod), more)


def _end(record: Record) -> Said:
    data = record.data
    code = f"exit code {text(data.get('exit_code'))}" if data.get("exit_code") is not None else ""
    signal = f"signal {text(data.get('signal'))}" if data.get("signal") else ""
    return Said("end", listed(text(data.get("cause")).replace("_", " "), code, signal, text(data.get("detail"))))


def _process_start(record: Record) -> Said:
    data = record.data
    command = text(processes.command_line(data, _COMMAND))
    if "pid" not in data:
        return Said("process", f"{text(data.get('name'))} started: {command}")
    then = tuple(f"then {text(processes.command_line(mapping(image), _COMMAND))}" for image in items(data.get("then")))
    ended = listed(_ended(data), duration(data.get("ms"))) if processes.is_whole(record) else "no end was recorded"
    return Said("process", f"{_numbers(data)}, {ended}: {command}", then)


def _numbers(data: dict[str, Any]) -> str:
    parent = "" if data.get("parent") is None else f" of {text(data.get('parent'))}"
    return f"{text(data.get('pid'))}{parent}"


def _process_exec(record: Record) -> Said:
    return Said("process", f"{_numbers(record.data)}: executed {text(processes.command_line(record.data, _COMMAND))}")


def _ended(data: dict[str, Any]) -> str:
    return f"killed by {text(processes.ending(data))}" if data.get("signal") else text(processes.ending(data))


def _process_exit(record: Record) -> Said:
    data = record.data
    return Said("process", listed(f"{text(data.get('name'))} ended", _ended(data), duration(data.get("ms"))))


def _sql(record: Record) -> Said:
    data = record.data
    rows = f"{text(data.get('rows'))} rows" if data.get("rows") is not None else ""
    failed = listed(text(data.get("sqlstate")), text(data.get("error"))) if data.get("error") or data.get("sqlstate") else ""
    by = f"by {text(data.get('user'))}" if data.get("user") else ""
    params = items(data.get("params"))
    more = [f"failed: {failed}"] if failed else []
    more += [f"with {', '.join(printable_value(value, 200) for value in params)}"] if params else []
    facts = listed(rows, duration(data.get("ms")), by)
    return Said(
        "sql",
        f"{text(data.get('database'))}: {text(' '.join(str(data.get('statement')).split()), 120)}"
        + (f" ({facts})" if facts else ""),
        tuple(more),
    )


def _row(record: Record) -> Said:
    data = record.data
    old, new = mapping(data.get("old")), mapping(data.get("new"))
    row = f"{text(data.get('op'))} {text(data.get('database'))}.{text(data.get('table'))} {pairs(mapping(data.get('key')))}"
    by = f" (by {text(data.get('user'))})" if data.get("user") else ""
    if data.get("approval"):
        approval = mapping(data["approval"])
        by = f" (proposal {text(str(approval.get('proposal'))[:12])}, by {text(approval.get('by'))})"
    if data.get("op") == "update":
        changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        return Said("row", row + by, tuple(f"~ {text(name)}: {_shown(old, name)} → {_shown(new, name)}" for name in changed))
    sign, values = ("-", old) if data.get("op") == "delete" else ("+", new)
    return Said(
        "row", row + by, tuple(f"{sign} {text(name)}: {printable_value(value, _TEXT)}" for name, value in values.items())
    )


def _shown(row: dict[str, Any], name: str) -> str:
    return printable_value(row[name], _TEXT) if name in row else "unknown"


def _http(record: Record) -> Said:
    data = record.data
    status = "no answer" if data.get("status") is None else text(data.get("status"))
    line = f"{text(data.get('method'))} {text(data.get('service'))} {text(data.get('path'))} → {status}"
    size = number(data.get("response_bytes"))
    more = (f"failed: {text(data.get('error'))}",) if data.get("error") else ()
    if data.get("injected"):
        more = (*more, "podctl put the attack's text into this answer")
    facts = listed(line, duration(data.get("ms")), f"{size:,.0f} bytes" if size is not None else "")
    return Said("http", facts, (*more, *_rule(data)))


def _rule(data: dict[str, Any]) -> tuple[str, ...]:
    """What decided."""
    return (f"rule: {text(data.get('policy'))} ({text(data.get('level'))})",) if data.get("policy") else ()


def _model(record: Record) -> Said:
    data = record.data
    model = listed(text(data.get("provider")), text(data.get("model")))
    if is_start(record):
        reserved = dollars_of(Record(0, "model.call", "", {"dollars": mapping(data.get("reserved")).get("dollars")}))
        return Said("model", f"{model}: no answer was recorded, {money(reserved)} was reserved")
    simulated = "simulated" if data.get("simulated") else ""
    facts = (
        text(data.get("status")),
        tokens_text(tokens_of(record)),
        money(dollars_of(record)),
        duration(data.get("ms")),
        simulated,
    )
    calls = [mapping(call) for call in items(data.get("tool_calls"))]
    more = [f"failed: {text(data.get('error'))}"] if data.get("error") else []
    more += [f"asks for {text(call.get('name'))}({text(call.get('arguments'))})" for call in calls]
    return Said("model", f"{model}: {listed(*facts)}", tuple(more))


def _tool(record: Record) -> Said:
    data = record.data
    arguments = data.get("arguments")
    given = pairs(arguments) if isinstance(arguments, dict) else "" if arguments is None else printable_value(arguments)
    server = f"{text(data.get('server'))}." if data.get("server") else ""
    line = listed(f"{server}{text(data.get('tool'))}({given})", duration(data.get("ms")), _tool_status(data))
    more = [] if data.get("result") is None else [f"→ {printable_value(data.get('result'), _TEXT)}"]
    if data.get("server") and data.get("error"):
        more.append(text(data.get("error")))
    return Said("tool", line, (*more, *_rule(data)))


def _tool_status(data: dict[str, Any]) -> str:
    if data.get("server"):
        return "" if data.get("status") == "ok" else text(data.get("status"))
    return "failed" if data.get("error") else ""


def _tools(record: Record) -> Said:
    data = record.data
    if data.get("error"):
        return Said("tools", f"{text(data.get('server'))} did not say what tools it has: {text(data.get('error'))}")
    listed_tools = [mapping(tool) for tool in items(data.get("tools"))]
    more = [f"CHANGED: {text(change)}" for change in items(data.get("changed"))]
    for tool in listed_tools:
        more += [f"LOOK AT {text(tool.get('name'))}: {text(finding)}" for finding in items(tool.get("findings"))]
    more += [f"left out: {text(name)}" for name in items(data.get("left_out"))]
    more += [f"LOOK AT its limits: {text(name)} is not listed" for name in items(data.get("limits_of_none"))]
    names = ", ".join(f"{text(tool.get('name'), 60)} ({text(tool.get('level'))})" for tool in listed_tools if tool.get("level"))
    return Said("tools", f"{text(data.get('server'))} has {names or 'no tools'}", tuple(more))


def _boundary(record: Record) -> Said:
    data = record.data
    what = f"ATTEMPT ACROSS THE BOUNDARY by {text(data.get('via'))}: {text(data.get('target'))}"
    more = [text(data.get("detail"))] if data.get("detail") else []
    if data.get("policy"):
        why = f": {text(data.get('reason'))}" if data.get("reason") else ""
        more.append(f"rule: {text(data.get('policy'))} ({text(data.get('level'))}){why}")
    return Said("BOUNDARY", listed(what, text(data.get("sqlstate"))), tuple(more))


def _proposed(record: Record) -> Said:
    data, arguments = record.data, mapping(record.data.get("arguments"))
    what = " ".join(text(part) for part in (arguments.get("method"), data.get("target"), arguments.get("path")) if part)
    if data.get("kind") == "sql":
        what = text(write_line(data.get("target"), arguments))
    more = [f"rule: {text(data.get('policy'))} (recommend)", f"why: {text(data.get('reason'))} [declared]"]
    if data.get("body"):
        more.append(f"body: {text(data.get('body'))}")
    if data.get("kind") == "sql":
        more += [f"{text(name)}: {text(told)}" for name, told in column_lines(arguments).items()]
    return Said("approval", f"{_proposal(data)} proposed: {what}", tuple(more))


def _answered(record: Record) -> Said:
    data = record.data
    delay = number(data.get("delay_s"))
    key = f" (key {text(data.get('key'))})" if data.get("key") else ""
    by = f"by {text(data.get('by'))}{key}" + (", simulated" if data.get("simulated") else "")
    seconds = "" if not delay else f"{delay:,.0f}" if delay >= 100 else f"{delay:.3g}"
    took = f"after {seconds} s" + ("" if data.get("waited") else ", only counted") if seconds else ""
    more = [line for line in (took, text(data.get("reason"))) if line]
    return Said("approval", f"{_proposal(data)} {text(data.get('answer')).replace('-', ' ')} {by}", tuple(more))


def _not_answered(record: Record) -> Said:
    return Said("APPROVAL", f"{_proposal(record.data)}: AN ANSWER WAS NONE: {text(record.data.get('reason'))}")


def _executed(record: Record) -> Said:
    return Said("approval", f"{_proposal(record.data)} carried out by the gateway")


def _returned(record: Record) -> Said:
    data = record.data
    failed = (f"failed: {text(data.get('error'))}",) if data.get("error") else ()
    status = "" if data.get("status") is None else f"status {text(data.get('status'))}"
    if data.get("rows") is not None:
        status = f"rows written: {text(data.get('rows'))}"
    return Said("approval", listed(f"{_proposal(data)} came back", status, duration(data.get("ms"))), failed)


def _proposal(data: dict[str, Any]) -> str:
    return f"proposal {printable(str(data.get('id'))[:12])}"


def _decoy(record: Record) -> Said:
    data = record.data
    return Said(
        "DECOY", f"CALLED: {text(data.get('method'))} {text(data.get('service'))} {text(data.get('path'))}, which is not there"
    )


def _honeytoken(record: Record) -> Said:
    data = record.data
    form = "" if data.get("form") == "plain" else f" ({text(data.get('form'))})"
    return Said("HONEYTOKEN", f"LET OUT: {text(data.get('place'))} in {text(data.get('sink'))}{form}")


def _scan_finding(record: Record) -> Said:
    data = record.data
    line = "" if data.get("line") is None else f", line {text(data.get('line'))}"
    what = f"{text(data.get('severity'))}: {text(data.get('where'))}{line}: {text(data.get('what'))}"
    return Said("LEFT BEHIND", what, (f"rule: {text(data.get('rule'))}",))


def _fault(record: Record) -> Said:
    data = record.data
    how = listed(
        f"call {text(data.get('call'))} of {text(data.get('door'))}"
        if data.get("call") is not None
        else text(data.get("door")),
        duration(data.get("ms")) if data.get("ms") is not None else "",
        f"status {text(data.get('status'))}" if data.get("status") is not None else "",
        text(data.get("how")),
        text(data.get("what")),
        "" if data.get("performed") is None else "its work was done" if data.get("performed") else "its work was not done",
    )
    return Said("FAULT", f"injected {text(data.get('kind'))}: {how}")


def _refused(record: Record) -> Said:
    return Said("refused", f"the gateway refused {text(record.data.get('what'))}: {text(record.data.get('reason'))}")


def _span(record: Record) -> Said:
    data = record.data
    begun, ended = number(data.get("start")), number(data.get("end"))
    took = duration((ended - begun) / 1e6) if begun is not None and ended is not None else ""
    status = text(data.get("status")) if data.get("status") not in (None, "unset", "ok") else ""
    return Said("span", listed(text(data.get("name")), took, status))


def _log(record: Record) -> Said:
    body = record.data.get("body")
    shown = text(body) if isinstance(body, str) else printable_value(body, _TEXT)
    return Said("log", f"{text(record.data.get('severity'))} {shown}".strip())


def _decision(record: Record) -> Said:
    decision = mapping(record.data.get("decision"))
    options = [mapping(option) for option in items(decision.get("options"))]
    chosen = ", ".join(text(option.get("action")) for option in options if option.get("chosen"))
    confidence = decision.get("confidence")
    basis = f" ({text(decision.get('confidence_basis'))})" if decision.get("confidence_basis") else ""
    sure = "" if confidence is None else f"confidence {text(confidence)}{basis}"
    lines = [_option(option) for option in options]
    features = [mapping(feature) for feature in items(decision.get("features"))]
    if features:
        lines.append("because " + ", ".join(f"{text(one.get('name'))}={printable_value(one.get('value'))}" for one in features))
    policy = mapping(decision.get("policy"))
    if policy:
        verdict = text(policy.get("verdict"))
        lines.append(f"policy {text(policy.get('id'))} {text(policy.get('version'))}" + (f" says {verdict}" if verdict else ""))
    lines += [f"cites span {text(span)}, which is not in the evidence" for span in items(record.data.get("unsupported"))]
    head = text(decision.get("kind")) or "decision"
    return Said("decision", listed(f"{head}: {chosen}" if chosen else head, sure), tuple(lines))


def _option(option: dict[str, Any]) -> str:
    cost = f"cost {text(option.get('est_cost'))}" if option.get("est_cost") is not None else ""
    risk = f"risk {text(option.get('est_risk'))}" if option.get("est_risk") is not None else ""
    why = f"rejected: {text(option.get('rejected_because'))}" if option.get("rejected_because") else ""
    sign = "*" if option.get("chosen") else "-"
    return f"{sign} {listed(text(option.get('action')), cost, risk, why)}"


def _usage(record: Record) -> Said:
    data = record.data
    wall, cpu, rss = number(data.get("wall_s")), number(data.get("cpu_s")), number(data.get("max_rss"))
    return Said(
        "usage",
        listed(
            "" if wall is None else f"{wall:.2f} s of wall time",
            "" if cpu is None else f"{cpu:.2f} s of CPU",
            "" if rss is None else f"{rss / 2**20:.0f} MiB",
            processes.counted(data),
            money(dollars_of(record)) if "dollars" in data else "",
        ),
    )


_BY_KIND: dict[str, Callable[[Record], Said]] = {
    "attempt.start": _start,
    "attempt.end": _end,
    "process.start": _process_start,
    "process.exec": _process_exec,
    "process.exit": _process_exit,
    "sql.statement": _sql,
    "row.change": _row,
    "http.call": _http,
    "model.call": _model,
    "tool.call": _tool,
    "tools.listed": _tools,
    "boundary.attempt": _boundary,
    "decoy.call": _decoy,
    "gateway.refused": _refused,
    "approval.proposed": _proposed,
    "approval.answered": _answered,
    "approval.refused": _not_answered,
    "approval.executed": _executed,
    "approval.returned": _returned,
    "honeytoken": _honeytoken,
    "scan.finding": _scan_finding,
    "fault": _fault,
    "span": _span,
    "log": _log,
    "decision": _decision,
    "usage": _usage,
}
