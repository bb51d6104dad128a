"""What an MCP server says of its tools: digests of it, what changed of it, and what in it is not for an agent's eyes.

What a tool says of itself an agent's model reads as it reads its prompt: a description that changes after it was looked at (a "rug
pull"), or that hides text, steers the agent.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from podctl.evidence.safe import printable

#: What of a tool an agent sees, and so what its digest is of.
SEEN = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
#: Under this name a list has the digest of what the server says of itself.
INSTRUCTIONS = "(instructions)"
_TEXT = 1_000
_FINDINGS = 8
#: Findings and changes of one server that a result keeps.
_KEPT = 20
#: Text that speaks to a model and not of a tool, in English: a sign to look at it, and no proof of anything.
_SPEAKS = re.compile(
    r"<\s*(important|system|instructions?|secret)\s*>"
    r"|\b(ignore|disregard|forget)\b.{0,40}\b(previous|prior|above|earlier|other)\b"
    r"|\b(do not|don't|never)\b.{0,40}\b(tell|mention|inform|reveal|show)\b.{0,40}\b(user|person|operator|human|anyone)\b"
    r"|\b(system|developer) (prompt|message)\b"
    r"|\bbefore (using|calling|you (use|call))\b.{0,80}\b(read|send|call|include|pass)\b"
    r"|\b(instead of|rather than)\b.{0,40}\bother tools?\b",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class ToolList:
    """What a server listed in one attempt: ``digest`` of all of it (of the last list), what ``changed`` within the attempt, ``findings`` in texts."""

    server: str
    digest: str
    changed: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


def digests_of(data: Mapping[str, Any]) -> dict[str, str]:
    """Tool -> digest, of a record ``tools.listed``."""
    return {str(tool["name"]): str(tool["digest"]) for tool in data.get("tools", ())}


def with_list(before: Iterable[ToolList], data: Mapping[str, Any]) -> tuple[ToolList, ...]:
    """``before`` and one record ``tools.listed`` more. Where no list ever came the digest is empty, and a finding says why."""
    lists = {one.server: one for one in before}
    server = str(data["server"])
    earlier = lists.get(server, ToolList(server, ""))
    if "tools" not in data:
        why = f"gave the agent no session: {printable(str(data.get('error')), 160)}"
        lists[server] = replace(earlier, findings=tuple(dict.fromkeys((*earlier.findings, why)))[:_KEPT])
    else:
        said = [f"{printable(str(tool['name']), 60)}: {one}" for tool in data["tools"] for one in tool.get("findings", ())]
        changed = (*earlier.changed, *(printable(str(one), 160) for one in data.get("changed", ())))
        said += [
            f"has a limit for {printable(str(name), 60)}, a tool that it does not list"
            for name in data.get("limits_of_none", ())
        ]
        digest = hashlib.sha256(json.dumps(digests_of(data), sort_keys=True).encode()).hexdigest()
        findings = dict.fromkeys((*earlier.findings, *said))
        lists[server] = ToolList(server, digest, changed[:_KEPT], tuple(findings)[:_KEPT])
    return tuple(lists.values())


def lists_differ(before: Iterable[ToolList], after: Iterable[ToolList]) -> list[str]:
    """Servers of both that listed something in one which they did in no attempt of the other."""
    known: dict[str, set[str]] = {}
    for one in before:
        if one.digest:
            known.setdefault(one.server, set()).add(one.digest)
    return sorted({one.server for one in after if one.digest and one.digest not in known.get(one.server, {one.digest})})


def notices(lists: Iterable[tuple[str, ToolList]]) -> list[str]:
    """What to look at in a run's lists, in words. ``lists``: ticket, list."""
    said: dict[str, dict[str, None]] = {}
    digests: dict[str, set[str]] = {}
    for ticket, one in lists:
        digests.setdefault(one.server, set()).update({one.digest} - {""})
        for change in one.changed:
            said.setdefault(f"{one.server} changed within an attempt: {change}", {})[ticket] = None
        for finding in one.findings:
            said.setdefault(f"{one.server} {finding}", {})[ticket] = None
    told = [f"{text} (ticket {next(iter(tickets))})" for text, tickets in said.items()]
    return [f"{server} had {len(of)} different lists in this run" for server, of in digests.items() if len(of) > 1] + told


def digest_of(tool: Mapping[str, Any]) -> str:
    """sha256 in hex of what an agent sees of the tool, independent of the order of keys."""
    seen = {key: tool[key] for key in SEEN if tool.get(key) is not None}
    return hashlib.sha256(json.dumps(seen, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def findings(tool: Mapping[str, Any]) -> list[str]:
    """What to look at in the tool's texts, in words; empty where there is nothing."""
    found: dict[str, None] = {}
    for text in _texts({key: tool.get(key) for key in SEEN}, 0):
        for character in text:
            if (what := _unseen(character)) is not None:
                found[f"{what} U+{ord(character):04X}"] = None
        if match := _SPEAKS.search(text):
            found[f"speaks to a model: {printable(match[0], 80)}"] = None
        if len(found) >= _FINDINGS:
            break
    return list(found)[:_FINDINGS]


def told(tool: Mapping[str, Any], level: str) -> dict[str, Any]:
    """A tool as a record of its list has it."""
    description = str(tool.get("description") or "")
    found = findings(tool)
    return {
        "name": str(tool.get("name"))[:128],
        "level": level,
        "digest": digest_of(tool),
        "description": description[:_TEXT] + ("…" if len(description) > _TEXT else ""),
    } | ({"findings": found} if found else {})


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """``before``, ``after``: tool -> digest. In words, in the order of names."""
    kinds = {name: "new" if name not in before else "gone" if name not in after else "changed" for name in {**before, **after}}
    return [f"{name}: {kinds[name]}" for name in sorted(kinds) if before.get(name) != after.get(name)]


def _texts(value: Any, depth: int) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and depth < 16:
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner, depth + 1)
    elif isinstance(value, list) and depth < 16:
        for inner in value:
            yield from _texts(inner, depth + 1)


def _unseen(character: str) -> str | None:
    if character in "\n\r\t" or (character.isascii() and character.isprintable()):
        return None
    category = unicodedata.category(character)
    if 0xE0000 <= ord(character) <= 0xE007F or 0xFE00 <= ord(character) <= 0xFE0F or 0xE0100 <= ord(character) <= 0xE01EF:
        return "hidden text"
    if unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"):
        return "a character that turns the direction of text"
    if category == "Cc":
        return "a control character"
    return "an invisible character" if category in ("Cf", "Co", "Cs") else None
