"""A user's own Cedar file beside the boundary: what it may say, where it is wrong.

It can only forbid. What it may speak of is `SCHEMA`, so that a misspelt attribute is found before a run and not during one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from podctl.spec.boundary import MAX_SEGMENTS
from podctl.spec.problems import Mark

_SEGMENTS = ", ".join(f"s{i}?: String, f{i}?: String" for i in range(MAX_SEGMENTS))
SCHEMA = f"""
entity Agent;
entity Service;
entity Server;
entity Tool in [Server];
action "call" appliesTo {{ principal: [Agent], resource: [Service],
  context: {{ method: String, path: String, n: Long, slash: Bool, {_SEGMENTS} }} }};
action "connect" appliesTo {{ principal: [Agent], resource: [Service] }};
action "use" appliesTo {{ principal: [Agent], resource: [Tool] }};
"""
_ID = re.compile(r'@id\s*\(\s*"((?:[^"\\]|\\.)*)"\s*\)')
_TOKEN = re.compile(r'//[^\n]*|"(?:[^"\\]|\\.)*"|;', re.DOTALL)


@dataclass(frozen=True)
class Extra:
    """One policy of the file, with an ``@id`` in any case."""

    id: str
    text: str


def read_extra(text: str, name: str, taken: frozenset[str] = frozenset()) -> tuple[list[Extra], list[tuple[Mark, str]]]:
    """The file's policies, and its mistakes at their places. ``name`` is what policies without an ``@id`` are called by;
    ``taken`` the names of the boundary's rules, which mean something else."""
    import cedarpy  # a tenth of a second, which boundaries without such a file need not wait for

    policies: list[Extra] = []
    mistakes: list[tuple[Mark, str]] = []
    for start, policy in _split(text):
        at = _mark(text, start)
        said = _ID.search(policy)
        id_ = said[1] if said else f"{name}:{at.line}"
        # Checked first: validation is of policies, and needs one that can be read.
        try:
            parsed = cedarpy.PolicySet.from_str(policy)
        except ValueError as error:
            mistakes.append((at, f"this policy is no Cedar: {error}"))
            continue
        effects = {one.effect for one in parsed.to_pst().static_policies.values()}
        if parsed.templates() or effects != {"forbid"}:
            mistakes.append((at, "expected forbid: what the boundary does not list cannot be permitted here"))
        elif id_ in {one.id for one in policies} | taken:
            mistakes.append((at, "the @id is another rule's"))
        else:
            found = [_told(error.error) for error in cedarpy.validate_policies(policy, SCHEMA).errors]
            mistakes += [(at, message) for message in found]
            policies.append(Extra(id_, policy if said else f'@id("{id_}")\n{policy}'))
    return policies, mistakes


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Where each policy begins, and its text; comments before it are left out."""
    begun = 0
    for token in _TOKEN.finditer(text):
        if token[0] == ";":
            yield _begin(text, begun), text[_begin(text, begun) : token.end()]
            begun = token.end()
    rest = _begin(text, begun)
    if text[rest:].strip():
        yield rest, text[rest:]


def _begin(text: str, start: int) -> int:
    while found := re.compile(r"\s+|//[^\n]*").match(text, start):
        start = found.end()
    return start


def _mark(text: str, start: int) -> Mark:
    return Mark(text.count("\n", 0, start) + 1, start - (text.rfind("\n", 0, start) + 1) + 1)


def _told(message: str) -> str:
    return re.sub(r"^for policy `[^`]*`, ", "", message)
