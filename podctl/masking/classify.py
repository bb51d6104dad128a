"""Rules proposed for columns, from their names, types and a sample of their values; a person confirms them. PURE.

A reason tells what was seen, never a value. What nothing was seen of is proposed as `text` or `erase`, not as `keep`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podctl.masking.codes import is_card, is_iban
from podctl.masking.columns import Column, why_not
from podctl.masking.text import looks_like
from podctl.spec.masking import ColumnRule, Mask


@dataclass(frozen=True)
class Sampled:
    """A column and some of its values as text; neither nulls nor empty ones. ``key``: part of a key or of a reference."""

    column: Column
    values: Sequence[str] = field(repr=False, default=())
    key: bool = False


#: What a name says. The first that fits wins; names are in lower case, their words apart by ``_``.
_BY_NAME: tuple[tuple[str, Mask, str], ...] = (
    (r"(^|_)(pass(word|wd|phrase)?|pwd|secret|salt|hash|otp|pin|private_key|api_?key|token|session|cookie|credential)s?(_|$)", "token", "a credential"),
    (r"e?_?mails?(_address)?$|^mail_?to$|^(recipient|sender)s?$", "email", "an e-mail address"),
    (r"(^|_)(phone|mobile|cell|fax|tel|telephone|msisdn)(_?(number|no|nr))?s?(_|$)", "phone", "a telephone number"),
    (r"(^|_)(first|given|middle|fore)_?names?$|^vorname$", "first-name", "a given name"),
    (r"(^|_)(last|family|sur)_?names?$|^nachname$", "last-name", "a family name"),
    (r"(^|_)(full|customer|contact|person|employee|patient|holder|owner|author|display|real|requester|assignee)_?names?$", "name", "a name"),
    (r"(^|_)(user|login|nick|screen|account)_?names?$|^(login|username|handle|nickname|user)$", "username", "a user's name"),
    (r"(^|_)(iban|bank_?account)(_|$)", "iban", "a bank account"),
    (r"(^|_)((credit_?)?card(_?(number|no|num))?|cc_?(num|number)|pan)$", "card", "a card's number"),
    (r"(^|_)(ssn|sin|nin|tin|(vat|tax)_?(id|no|number)|passport|national_?id|licen[cs]e(_?(no|number|plate))?|insurance_?(no|number))(_|$)", "id", "an official number"),
    (r"(^|_)(street|addr(ess)?(_?line)?_?\d?|line_?[12]|house_?(no|number))$|_address$", "address", "an address"),
    (r"(^|_)(zip|post(al)?)_?(code)?$|^plz$", "id", "a postal code"),
    (r"(^|_)(city|town|village|municipality)$", "city", "a town"),
    (r"(^|_)(company|employer|organi[sz]ation|firm)(_?name)?$", "company", "a company"),
    (r"(^|_)(ip|ip_?addr(ess)?|remote_?addr|client_?ip)$", "ip", "a machine's address"),
    (r"(^|_)(url|uri|link|website|homepage|avatar|photo|picture)(_|$)", "url", "an address of the web"),
    (r"(^|_)(birth_?(day|date)?|dob|date_of_birth|born(_on)?|birthday)(_|$)", "date", "a date of birth"),
    (r"(^|_)(gender|sex|religion|ethnicity|race|nationality|diagnosis|disability|orientation|blood_?type|marital(_status)?)$", "erase", "of a special category"),
    (r"(^|_)(salary|income|wage|balance|net_?worth|credit_?(limit|score)|iq|weight|height)$", "number", "an amount of a person"),
    (r"(^|_)(note|comment|description|message|body|text|content|subject|title|remark|reason|summary|bio|about|question|answer|reply|history|log)s?$", "text", "free text"),
)  # fmt: skip
#: A table of people, in which a bare ``name`` is a person's.
_PEOPLE = re.compile(
    r"(user|customer|client|person|people|employee|contact|patient|member|account|agent|staff|guest|owner|author|student|subscriber)s?$"
)
_ENOUGH = 0.3
#: In so many values no more than so many different ones: a state, a kind.
_FEW_OF, _FEW = 50, 12


def propose(table: str, columns: Sequence[Sampled]) -> dict[str, ColumnRule]:
    """column -> rule, each with ``proposed`` saying why."""
    key = next((one.column.name for one in columns if one.key), "*")
    return {one.column.name: _fitting(one.column, _rule(table, one, key), columns) for one in columns}


def join(
    proposals: dict[str, dict[str, ColumnRule]], edges: Iterable[tuple[str, Sequence[str], str, Sequence[str]]]
) -> dict[str, dict[str, ColumnRule]]:
    """Referring columns get the rule of those they refer to; ``edges``: (table, columns, referenced table, columns)."""
    for _ in range(len(proposals)):  # along chains of references
        for table, names, other, others in edges:
            for name, referenced in zip(names, others, strict=True):
                rule = proposals.get(other, {}).get(referenced)
                if rule is not None and name in proposals.get(table, {}):
                    proposals[table][name] = rule.model_copy(update={"proposed": f"refers to {other}.{referenced}"})
    return proposals


def _rule(table: str, one: Sampled, key: str) -> ColumnRule:
    kind, values = one.column.element, one.values
    name = _snake(one.column.name)
    if kind in ("json", "jsonb") and not one.column.is_array:
        return _document(values, key)
    found = _seen(values)
    named = next(((mask, why) for pattern, mask, why in _BY_NAME if re.search(pattern, name)), None)
    if named is None and name in ("name", "names") and _PEOPLE.search(table.lower()):
        named = ("name", "a name, of a table of people")
    if found is not None and (found[0] != "text" or named is None):
        mask, share = found
        what = "have something personal in them" if mask == "text" else "look like it"
        return ColumnRule(mask=mask, proposed=f"{share:.0%} of {len(values)} values {what}")
    if named is not None:
        return _of(named[0], f"by its name {named[1]}", key)
    if one.key:
        if kind in ("smallint", "integer", "bigint", "uuid", "numeric"):
            return ColumnRule(mask="keep", proposed="a number that only joins rows; id where it is known outside")
        return ColumnRule(mask="id", proposed="a key")
    if kind == "boolean":
        return ColumnRule(mask="keep", proposed="true or false")
    if kind in ("smallint", "integer", "bigint", "numeric", "real", "double precision", "money"):
        return ColumnRule(mask="keep", proposed="a number, by its name of nobody's")
    if kind.startswith(("date", "timestamp", "time", "interval")):
        return ColumnRule(mask="keep", proposed="a time, by its name of nobody's birth; date moves it")
    if kind == "inet":
        return ColumnRule(mask="ip", proposed="a machine's address, by its type")
    if kind == "uuid":
        return ColumnRule(mask="id", proposed="an id, by its type")
    different = len(set(values))
    if len(values) >= _FEW_OF and different <= _FEW and all(len(value) <= 30 for value in values):
        return ColumnRule(mask="keep", proposed=f"{different} different in {len(values)} values")
    if values and all(re.fullmatch(r"[A-Za-z0-9][\w./:#-]{2,40}", value) and re.search("[0-9]", value) for value in values):
        return ColumnRule(mask="id", proposed="codes with digits, and no space")
    if kind in _TEXTS:
        return ColumnRule(mask="text", proposed="text of which nothing else is known" if values else "no value was seen")
    return ColumnRule(mask="erase", proposed=f"podctl knows no mask of {kind}")


_TEXTS = ("text", "character varying", "character", "citext", "name")


def _of(mask: Mask, why: str, key: str) -> ColumnRule:
    return ColumnRule(mask=mask, proposed=why, subject=key if mask == "date" else None)


def _fitting(column: Column, rule: ColumnRule, columns: Sequence[Sampled]) -> ColumnRule:
    """The rule, or one that the column's type, length and constraints allow."""
    there = {one.column.name: one.column for one in columns}
    why = why_not(rule, column, there)
    if not why:
        return rule
    reason = f"{rule.mask} ({rule.proposed}) is not possible: {why}"
    for instead in ("id", "erase"):
        other = ColumnRule(mask=instead, proposed=reason)
        if not (instead == "id" and rule.mask == "date") and not why_not(other, column, there):
            return other
    numbers = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
    value = "0" if column.element in numbers else "1970-01-01" if "date" in column.element or "time" in column.element else ""
    return ColumnRule(mask="constant", value=value, proposed=reason)


def _seen(values: Sequence[str]) -> tuple[Mask, float] | None:
    """What a good part of the values is as a whole; text, when they have such things in them."""
    if not values:
        return None
    counts: dict[Mask, int] = {}
    within = 0
    for value in values:
        text = value.strip()
        mask = _whole(text)
        if mask is not None:
            counts[mask] = counts.get(mask, 0) + 1
        elif any(span.mask != "ip" for span in looks_like(text)):
            within += 1
    if counts:
        mask, count = max(counts.items(), key=lambda item: item[1])
        if count / len(values) >= _ENOUGH:
            return mask, count / len(values)
    if within or sum(counts.values()):
        return "text", (within + sum(counts.values())) / len(values)
    return None


def _whole(text: str) -> Mask | None:
    if is_iban(text):
        return "iban"
    digits = re.sub("[ -]", "", text)
    if digits.isdecimal() and 13 <= len(digits) <= 19 and is_card(digits):
        return "card"
    if re.fullmatch(r"https?://\S+", text):
        return "url"
    whole: tuple[Mask, ...] = ("email", "url", "token", "phone", "ip")
    spans = [span for span in looks_like(text) if span.start == 0 and span.end == len(text)]
    return next((mask for mask in whole if any(span.mask == mask for span in spans)), None)


# ---- documents ----


def _document(values: Sequence[str], key: str) -> ColumnRule:
    leaves: dict[str, list[str]] = {}
    for value in values:
        try:
            for path, leaf in _leaves(json.loads(value), ""):
                leaves.setdefault(path, []).append(leaf)
        except (ValueError, RecursionError):
            continue
    paths: dict[str, ColumnRule] = {}
    for path, found in sorted(leaves.items()):
        if path and len(paths) < 200:
            name = next((part for part in reversed(path.split(".")) if part != "*"), "value")
            kind = "bigint" if all(re.fullmatch(r"-?[0-9]{1,18}", leaf) for leaf in found) else "text"
            rule = _rule("", Sampled(Column(name, kind), [leaf for leaf in found if leaf]), key)
            paths[path] = rule
    if not paths:
        return ColumnRule(mask="erase", proposed="documents of which no path was seen")
    return ColumnRule(mask="json", paths=paths, proposed=f"paths of {len(values)} documents; what others have is removed")


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    below = f"{path}." if path else ""
    if isinstance(value, dict):
        for key, item in value.items():
            # Keys that are no names, or very many, are values themselves: they must not get into the file.
            is_name = len(value) <= 40 and re.fullmatch(r"[A-Za-z_][\w-]{0,40}", key)
            yield from _leaves(item, below + (key if is_name else "*"))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, f"{below}*")
    else:
        yield path, "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_").replace(" ", "_")


# ---- as YAML ----


def propose_fields(tickets: Sequence[Mapping[str, Any]], key: str) -> dict[str, ColumnRule]:
    """path -> rule, for the fields of tickets; ``key`` is the path of their ids, which `TicketRules.id` decides about."""
    found = dict(_document([json.dumps(fields, default=str) for fields in tickets], "").paths)
    if key in found:
        found[key] = ColumnRule(mask="keep", proposed="the ticket's id; tickets.id: id masks it")
    return found


def as_yaml(
    name: str,
    database: str,
    tables: Mapping[str, Mapping[str, ColumnRule]],
    fields: Mapping[str, ColumnRule] | None = None,
) -> str:
    """A Masking file; every rule in it is proposed. ``fields``: of tickets, where there are any."""
    lines = ["apiVersion: podctl/v1", "kind: Masking", f"name: {name}"]
    lines += ["databases:", f"  {database}:"] if tables else []
    for table, rules in tables.items():
        lines.append(f"    {_text(table)}:")
        for column, rule in rules.items():
            lines += _rule_lines(column, rule, 6)
    if fields is not None:
        lines += ["tickets:", "  fields:" if fields else "  fields: {}"]
        for path, rule in fields.items():
            lines += _rule_lines(path, rule, 4)
    return "\n".join(lines) + "\n"


def _rule_lines(column: str, rule: ColumnRule, indent: int) -> list[str]:
    pad = " " * indent
    written: dict[str, Any] = {"mask": rule.mask}
    written |= {key: value for key in ("subject", "value") if (value := getattr(rule, key)) is not None}
    if rule.bucket is not None:
        written["bucket"] = float(rule.bucket)
    if rule.proposed is not None:
        written["proposed"] = rule.proposed
    if not rule.paths:
        return [f"{pad}{_text(column)}: {{{', '.join(f'{key}: {_text(value)}' for key, value in written.items())}}}"]
    lines = [f"{pad}{_text(column)}:", *(f"{pad}  {key}: {_text(value)}" for key, value in written.items()), f"{pad}  paths:"]
    for path, inner in rule.paths.items():
        lines += _rule_lines(path, inner, indent + 4)
    return lines


def _text(value: Any) -> str:
    plain = (
        isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.-]*", value) and value.lower() not in ("null", "true", "false")
    )
    return value if plain else json.dumps(value, ensure_ascii=False)
