"""JSON masked by path. What no path names is removed, its key too: keys can be values of people as well."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from podctl.masking.values import ValueMask
from podctl.spec.masking import ColumnRule

#: How a rule masks a leaf, given as text; the callable makes it for each rule once.
MaskMaker = Callable[[ColumnRule], ValueMask]


class _Number(str):
    """A number as it was written, so that it stays what it was."""

    __slots__ = ()


class DocumentMask:
    """``mask`` is for JSON text, ``value`` for what is parsed already (dict, list, text, number, bool, None)."""

    def __init__(self, rules: Mapping[str, ColumnRule], make: MaskMaker, keys: ValueMask) -> None:
        self._root = _Node()
        self._keys = keys
        for path, rule in rules.items():
            node = self._root
            for part in path.split("."):
                node = node.children.setdefault(part, _Node())
            node.rule, node.mask = rule, make(rule)

    def text(self, document: str) -> str:
        """Raises ValueError, without the text, for what is no JSON or nested too deeply."""
        try:
            return _written(self.value(_parsed(document)))
        except (ValueError, RecursionError):
            raise ValueError("no JSON, or nested too deeply") from None

    def value(self, value: Any) -> Any:
        return self._masked(value, self._root)

    def leaves(self, value: Any) -> Iterator[tuple[ColumnRule, str]]:
        """(rule, value) of each text and number that a rule masks."""
        for _, rule, leaf in _leaves(value, self._root, "", None):
            if rule is not None and leaf is not None and not isinstance(leaf, bool):
                yield rule, str(leaf)

    def without_rule(self, value: Any) -> Iterator[str]:
        """Paths of what `value` would remove."""
        return (path for path, rule, leaf in _leaves(value, self._root, "", None) if rule is None and leaf is not None)

    def _masked(self, value: Any, node: _Node) -> Any:
        if node.mask is not None and node.rule is not None:
            return self._beneath(value, node.rule, node.mask)
        if isinstance(value, dict):
            kept = {}
            for key, item in value.items():
                child = node.named(key)
                if child is not None:
                    kept[key] = self._masked(item, child)
                elif "*" in node.children:
                    kept[self._key(key)] = self._masked(item, node.children["*"])
            return kept
        if isinstance(value, list):
            child = node.children.get("*")
            return [] if child is None else [self._masked(item, child) for item in value]
        return None  # a path leads further, and nothing says how to mask what ends here

    def _beneath(self, value: Any, rule: ColumnRule, mask: ValueMask) -> Any:
        """All that stands beneath a path, by the path's rule."""
        if rule.mask == "keep" or value is None:
            return value
        if rule.mask == "constant":
            return rule.value
        if rule.mask == "erase":
            return None
        if isinstance(value, dict):
            return {self._key(key): self._beneath(item, rule, mask) for key, item in value.items()}
        if isinstance(value, list):
            return [self._beneath(item, rule, mask) for item in value]
        if isinstance(value, bool):
            return None
        if isinstance(value, str):
            masked = mask(value) if value else value
            return _Number(masked) if isinstance(value, _Number) and masked is not None and _is_number(masked) else masked
        masked = mask(repr(value))
        return json.loads(masked) if masked is not None and _is_number(masked) else masked

    def _key(self, key: str) -> str:
        return self._keys(key) or ""


class _Node:
    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.rule: ColumnRule | None = None
        self.mask: ValueMask | None = None

    def named(self, key: str) -> _Node | None:
        """What a path says of a key, which may have dots of its own."""
        found = self.children.get(key)
        if found is None and "." in key:
            first, _, rest = key.partition(".")
            below = self.children.get(first)
            return None if below is None else below.named(rest)
        return found


def _leaves(value: Any, node: _Node | None, path: str, rule: ColumnRule | None) -> Iterator[tuple[str, ColumnRule | None, Any]]:
    rule = rule or (node.rule if node is not None else None)
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else (("*", item) for item in value)
        for key, item in entries:
            child = None if node is None else node.named(key) or node.children.get("*")
            # A key that is no name may be somebody's value.
            shown = key if re.fullmatch(r"\w[\w -]{0,60}", key) and not key.isdecimal() else "*"
            yield from _leaves(item, child, f"{path}.{shown}" if path else shown, rule)
    else:
        yield path, rule, value


def _is_number(text: str) -> bool:
    try:
        return isinstance(json.loads(text), int | float) and not isinstance(json.loads(text), bool)
    except ValueError:
        return False


def _parsed(document: str) -> Any:
    return json.loads(document, parse_int=_Number, parse_float=_Number)


def _written(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
