"""An attempt in the Agent Trajectory Interchange Format, ATIF v1.8.

A reader of ATIF rejects unknown keys: whatever the format has no field for is under ``extra``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from podctl.evidence.calls import dollars_of, in_order, is_start, items, mapping, tokens_of, totals, without_answered_starts
from podctl.evidence.events import describe
from podctl.evidence.identity import Identity
from podctl.evidence.processes import is_whole, with_whole_processes
from podctl.evidence.records import Record, Tokens
from podctl.evidence.safe import well_formed_value

SCHEMA_VERSION = "ATIF-v1.8"
_OBSERVED = frozenset({"http.call", "sql.statement", "row.change", "boundary.attempt", "gateway.refused", "process.exit"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_atif(records: Iterable[Record], identity: Identity) -> dict[str, Any]:
    """The trajectory as values for `json.dumps`: always at least one step, the attempt's start."""
    ordered = with_whole_processes(without_answered_starts(in_order(records)))
    steps = _Steps(identity)
    for record in ordered:
        steps.add(record)
    called = [record for record in ordered if record.kind == "model.call"]
    agent = {
        "name": identity.agent_name,
        "version": identity.agent_version,
        "extra": {"digest": identity.agent_digest, "spiffe_id": identity.spiffe},
    }
    if called:
        agent["model_name"] = str(called[0].data.get("model") or "")
    trajectory = {
        "schema_version": SCHEMA_VERSION,
        "session_id": identity.run,
        "trajectory_id": f"{identity.run}/{identity.attempt}",
        "agent": agent,
        "steps": steps.finished(ordered),
        "final_metrics": _final(ordered),
        "extra": {
            "attempt": identity.attempt,
            "ticket": identity.ticket,
            "scenario": identity.scenario,
            "pod": identity.pod,
            "policy": identity.policy,
            "cause": None if identity.cause is None else identity.cause.value,
            "passed": identity.passed,
        },
    }
    return dict(well_formed_value(trajectory))


class _Steps:
    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._steps: list[dict[str, Any]] = []
        self._told: Counter[str] = Counter()  # messages of earlier calls: each call repeats the conversation

    def add(self, record: Record) -> None:
        if record.kind == "model.call":
            self._model(record)
        elif record.kind == "tool.call":
            self._tool(record)
        elif record.kind == "decision":
            self._decision(record)
        elif record.kind in _OBSERVED or is_whole(record):
            self._observe({"content": _content(record), "extra": _facts(record)}, record)

    def finished(self, records: list[Record]) -> list[dict[str, Any]]:
        started = next((record for record in records if record.kind == "attempt.start"), None)
        first: dict[str, Any] = {"source": "system", "message": f"Ticket {self._identity.ticket}"}
        if started is not None:
            first |= {"timestamp": _time(started.t), "extra": {"attempt.start": started.data}}
        return [{"step_id": number, **step} for number, step in enumerate([first, *self._steps], start=1)]

    def _model(self, record: Record) -> None:
        data = record.data
        *asked, answer = [mapping(message) for message in items(data.get("messages"))] or [{}]
        now: Counter[str] = Counter()
        for message in asked:
            key = json.dumps(message, sort_keys=True, default=str)
            now[key] += 1
            if now[key] > self._told[key]:
                self._told[key] = now[key]
                self._asked(message, record)
        step: dict[str, Any] = {"timestamp": _time(record.t), "source": "agent", "message": _text_of(answer.get("content"))}
        calls = [_tool_call(mapping(call), number) for number, call in enumerate(items(data.get("tool_calls")))]
        if calls:
            step["tool_calls"] = calls
        step["metrics"] = _metrics(record)
        kept = (
            "provider",
            "model",
            "response_model",
            "status",
            "finish_reasons",
            "ms",
            "first_byte_ms",
            "stream",
            "source",
            "error",
        )
        step["extra"] = {name: data[name] for name in kept if data.get(name) is not None} | {"answered": not is_start(record)}
        self._steps.append(step)

    def _asked(self, message: dict[str, Any], record: Record) -> None:
        role = message.get("role")
        results = list(_tool_results(message))
        for call_id, content in results:
            self._result(call_id, content)
        if results or role not in ("system", "developer", "user"):
            return  # the agent's own messages are steps already
        source = "user" if role == "user" else "system"
        self._steps.append({"timestamp": _time(record.t), "source": source, "message": _text_of(message.get("content"))})

    def _result(self, call_id: str, content: str) -> None:
        for step in reversed(self._steps):
            if any(call["tool_call_id"] == call_id for call in step.get("tool_calls", [])):
                results = step.setdefault("observation", {"results": []})["results"]
                if not any(result.get("source_call_id") == call_id for result in results):
                    results.append({"source_call_id": call_id, "content": content})
                return

    def _tool(self, record: Record) -> None:
        data = record.data
        step = self._agent_step(record)
        calls = step.setdefault("tool_calls", [])
        results = step.setdefault("observation", {"results": []})["results"]
        answered = {result.get("source_call_id") for result in results}
        asked = [call for call in calls if call["function_name"] == data.get("tool") and call["tool_call_id"] not in answered]
        if asked:
            call_id = asked[0]["tool_call_id"]
        else:
            call_id = str(data.get("span_id") or f"tool-{record.seq}")
            while any(call["tool_call_id"] == call_id for call in calls):
                call_id += "'"
            calls.append(
                {
                    "tool_call_id": call_id,
                    "function_name": str(data.get("tool")),
                    "arguments": _arguments(data.get("arguments")),
                }
            )
        content = data.get("error") if data.get("result") is None else data.get("result")
        results.append({"source_call_id": call_id, "content": _text_of(content), "extra": _facts(record)})

    def _decision(self, record: Record) -> None:
        step = self._agent_step(record)
        said = describe(record).lines()
        step["reasoning_content"] = f"{step['reasoning_content']}\n{said}" if "reasoning_content" in step else said
        step.setdefault("extra", {}).setdefault("decisions", []).append(record.data.get("decision"))

    def _observe(self, result: dict[str, Any], record: Record) -> None:
        self._agent_step(record).setdefault("observation", {"results": []})["results"].append(result)

    def _agent_step(self, record: Record) -> dict[str, Any]:
        """The latest step of the agent; an agent that calls no model has one without a message."""
        latest: dict[str, Any] | None = next((step for step in reversed(self._steps) if step["source"] == "agent"), None)
        if latest is None:
            latest = {"timestamp": _time(record.t), "source": "agent", "message": ""}
            self._steps.append(latest)
        return latest


def _time(t: int) -> str:
    try:
        return (_EPOCH + timedelta(microseconds=t // 1000)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return _EPOCH.isoformat().replace("+00:00", "Z")


def _facts(record: Record) -> dict[str, Any]:
    told = {
        name: value
        for name, value in record.data.items()
        if value not in (None, "") and name not in ("response_body", "result")
    }
    return {"kind": record.kind, "actor": record.actor, "timestamp": _time(record.t), "provenance": record.provenance, **told}


def _content(record: Record) -> str:
    body = record.data.get("response_body")
    return _text_of(body) if record.kind == "http.call" and body else describe(record).lines()


def _tool_call(call: dict[str, Any], number: int) -> dict[str, Any]:
    return {
        "tool_call_id": str(call.get("id") or f"call-{number}"),
        "function_name": str(call.get("name") or ""),
        "arguments": _arguments(call.get("arguments")),
    }


def _arguments(value: Any) -> dict[str, Any]:
    """Models give arguments as JSON text; what is no object is kept under ``value``."""
    found = value
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            pass
    if isinstance(found, dict):
        return mapping(found)
    return {} if found is None else {"value": found}


def _tool_results(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(call id, content) in a message of OpenAI's chat or responses API, or of Anthropic's."""
    if message.get("role") == "tool":
        yield str(message.get("tool_call_id")), _text_of(message.get("content"))
    elif message.get("type") == "function_call_output":
        yield str(message.get("call_id")), _text_of(message.get("output"))
    for block in map(mapping, items(message.get("content"))):
        if block.get("type") == "tool_result":
            yield str(block.get("tool_use_id")), _text_of(block.get("content"))


def _text_of(value: Any) -> str:
    """Text, or the text of content parts; a part that is no text is named."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        return "\n".join(str(part["text"]) if "text" in part else f"[{part.get('type', 'part')}]" for part in value)
    try:
        return json.dumps(value, default=str)
    except (ValueError, RecursionError):
        return "<nested too deeply>"


def _prompt(tokens: Tokens) -> int:
    return tokens.input + tokens.cache_read + tokens.cache_write


def _metrics(record: Record) -> dict[str, Any]:
    tokens, dollars = tokens_of(record), dollars_of(record)
    metrics: dict[str, Any] = {"extra": {"simulated": record.data.get("simulated") is True}}
    if tokens is not None:
        metrics |= {"prompt_tokens": _prompt(tokens), "completion_tokens": tokens.output + tokens.reasoning}
        metrics["cached_tokens"] = tokens.cache_read
        metrics["extra"] |= {"cache_write_tokens": tokens.cache_write, "reasoning_tokens": tokens.reasoning}
    if dollars is not None:
        metrics["cost_usd"] = float(dollars)
    return metrics


def _final(records: list[Record]) -> dict[str, Any]:
    found = totals(records)
    final: dict[str, Any] = {
        "total_prompt_tokens": _prompt(found.tokens),
        "total_completion_tokens": found.tokens.output + found.tokens.reasoning,
        "total_cached_tokens": found.tokens.cache_read,
        "extra": {"simulated": found.simulated, "counts": found.counts, "phases": found.phases, "wall_s": found.wall_s},
    }
    if isinstance(found.dollars, Decimal):
        final["total_cost_usd"] = float(found.dollars)
    return final
