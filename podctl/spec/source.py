"""YAML text to plain values that remember where they stand, and mistakes shown at their place.

Only YAML 1.2's plain rules hold: ``true``/``false``, ``null``, decimal numbers; everything else is text.
Files of other systems (`read_foreign`) may have several documents, merge keys, tags and keys that are no text.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from podctl.errors import SpecError
from podctl.spec.problems import Mark, Problem, SpecMistakes, printable, shown

MAX_FILE = 1 << 20
#: Nested mappings and lists, and values in all with aliases written out (long text counts for more).
MAX_DEPTH = 64
MAX_VALUES = 50_000
MAX_ALIASES = 100


@dataclass(frozen=True)
class Bounds:
    """What one file may come to."""

    depth: int = MAX_DEPTH
    values: int = MAX_VALUES
    aliases: int = MAX_ALIASES


FOREIGN = Bounds(depth=200, values=300_000, aliases=10_000)

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
#: One half of a surrogate pair.
_HALF = re.compile("[\ud800-\udfff]")
_WORDS: dict[str, Any] = {"": None, "~": None}
for _word, _value in (("null", None), ("true", True), ("false", False)):
    _WORDS |= {_word: _value, _word.capitalize(): _value, _word.upper(): _value}
#: What PyYAML counts as the end of a line; positions would be off with any other notion.
_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


@dataclass(frozen=True, eq=False)
class Item:
    """A value with its place. ``entries`` is set for mappings (key -> place of the key, value), ``items`` for lists.

    ``written`` is a plain scalar as it stands in the file; ``tag`` only foreign files have.
    """

    value: Any
    at: Mark
    entries: dict[str, tuple[Mark, Item]] | None = None
    items: list[Item] | None = None
    weight: int = 1
    depth: int = 0
    written: str = ""
    tag: str = ""

    def get(self, key: str) -> Item | None:
        return self.entries[key][1] if self.entries is not None and key in self.entries else None

    def text(self, key: str, default: str) -> str | None:
        """The text under ``key``; None when something else than text stands there."""
        item = self.get(key)
        if item is None:
            return default
        return item.value if isinstance(item.value, str) else None

    def mapping(self, key: str) -> dict[str, tuple[Mark, Item]]:
        item = self.get(key)
        return (item.entries or {}) if item is not None else {}

    def list(self, key: str) -> list[Item]:
        item = self.get(key)
        return (item.items or []) if item is not None else []


@dataclass(frozen=True)
class Used:
    """A component where it is used: ``file`` and ``lines`` as `Document` has them; ``where``: file, line and column of the use."""

    path: Path
    file: str
    lines: list[str]
    where: str


@dataclass(frozen=True)
class Document:
    """A file read: its values, and what was wrong with the writing itself.

    ``used``: the components that were put in place, by the ``file`` of marks; ``broken``: one could not be.
    """

    path: Path
    file: str
    lines: list[str]
    root: Item
    problems: list[Problem] = field(default_factory=list)
    used: Mapping[str, Used] = field(default_factory=dict)
    broken: bool = False

    def problem(self, at: Mark, message: str, hint: str = "") -> Problem:
        if at.file:
            used = self.used[at.file]
            line = used.lines[at.line - 1] if at.line <= len(used.lines) else ""
            told = f"{hint}; used at {used.where}" if hint else f"used at {used.where}"
            return Problem(used.file, Mark(at.line, at.column), message, told, line)
        line = self.lines[at.line - 1] if at.line <= len(self.lines) else ""
        return Problem(self.file, at, message, hint, line)


def read(path: Path) -> Document:
    """Raises `SpecError` when the file cannot be read or is no YAML."""
    path = Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would also follow symbolic links)
    data = contents(path)
    return parse(data, path)


def parse(data: bytes, path: Path) -> Document:
    """The document in ``data``; mistakes that do not stop reading are in ``problems``.

    Raises `SpecMistakes` for what does: not UTF-8, bad syntax, more than one document, nothing at all, bombs.
    """
    file = shown(path)
    text = _decoded(data, file)
    return _Builder(text, path, file).document()


def read_foreign(data: bytes, file: str) -> list[Document]:
    """The documents of a file of another system; ``file`` is what messages call it. Empty documents are left out.

    Raises `SpecMistakes` for what cannot be read, and for keys that are given twice.
    """
    documents = _Builder(_decoded(data, file), Path(file), file, FOREIGN, foreign=True).documents()
    mistakes = [problem for document in documents for problem in document.problems]
    if mistakes:
        raise SpecMistakes(mistakes)
    return documents


def stat_kind(path: Path) -> str:
    """``file``, ``directory``, ``other`` or, when nothing can be reached there, an empty string."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return ""
    return "file" if stat.S_ISREG(mode) else "directory" if stat.S_ISDIR(mode) else "other"


def contents(path: Path) -> bytes:
    """Raises `SpecError`: for what is no regular file, too, and for more than a spec may come to."""
    name = printable(shown(path))
    kind = stat_kind(path)
    if kind == "":
        raise SpecError(
            f"no such file: {name}", code="spec-not-found", hint="check the path, or podctl init to start a project"
        )
    if kind != "file":
        raise SpecError(f"not a file: {name}", code="spec-not-found", hint="name the YAML file itself")
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except OSError as error:
        raise SpecError(f"cannot read {name}", code="spec-unreadable", cause=str(error)) from error
    if len(data) > MAX_FILE:
        raise SpecError(f"{name} is larger than 1 MiB", code="spec-too-large", hint="keep data in files of their own")
    return data


def _decoded(data: bytes, file: str) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        lines = _LINE_END.split(before)
        at = Mark(len(lines), len(lines[-1]) + 1)
        bad = f"expected UTF-8 text, found the byte 0x{data[error.start]:02x}"
        raise SpecMistakes([Problem(file, at, bad, "save the file as UTF-8", lines[-1])]) from error
    return text.removeprefix("\ufeff")


@dataclass
class _Open:
    """A mapping or list whose end has not been read yet."""

    at: Mark
    anchor: str | None
    entries: dict[str, tuple[Mark, Item]] | None
    items: list[Item]
    key: Item | None = None
    weight: int = 1
    depth: int = 1
    merged: list[Item] = field(default_factory=list)
    tag: str = ""


class _Builder:
    """Builds items from PyYAML's events, without recursion, so that depth is no danger."""

    def __init__(self, text: str, path: Path, file: str, bounds: Bounds | None = None, foreign: bool = False) -> None:
        self._path, self._file = path, file
        self._bounds, self._foreign = bounds or Bounds(), foreign
        self._text = text
        self._lines = _LINE_END.split(text)
        self._problems: list[Problem] = []
        self._anchors: dict[str, Item | None] = {}
        self._stack: list[_Open] = []
        self._aliases = 0
        self._root: Item | None = None

    def document(self) -> Document:
        """The one document of a spec."""
        self._tabs()
        documents = 0
        for event in self._events():
            at = _mark(event.start_mark)
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._stop(at, "a second document starts here", "one file holds one document; remove the ---")
            elif isinstance(event, yaml.NodeEvent):
                self._node(event, at)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self._close()
        if self._root is None or self._root.value is None:
            if self._problems:
                raise SpecMistakes(self._problems)
            self._stop(Mark(1, 1), "the file is empty", "see docs/scenarios.md for what belongs here")
        return Document(self._path, self._file, self._lines, self._root, self._problems)

    def documents(self) -> list[Document]:
        found = []
        for event in self._events():
            if isinstance(event, yaml.DocumentStartEvent):
                self._root, self._anchors = None, {}
            elif isinstance(event, yaml.NodeEvent):
                self._node(event, _mark(event.start_mark))
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self._close()
            elif isinstance(event, yaml.DocumentEndEvent) and self._root is not None and self._root.value is not None:
                found.append(Document(self._path, self._file, self._lines, self._root, self._problems))
        return found

    def _tabs(self) -> None:
        for number, line in enumerate(self._lines, start=1):
            indent = line[: len(line) - len(line.lstrip(" \t"))]
            if "\t" in indent and line.strip():
                self._report(Mark(number, indent.index("\t") + 1), "a tab in the indentation", "indent with spaces")
        if self._problems:
            raise SpecMistakes(self._problems)

    def _events(self) -> Iterator[Any]:
        loader = None
        try:
            loader = yaml.SafeLoader(self._text)
            while loader.check_event():
                yield loader.get_event()  # type: ignore[no-untyped-call]
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            said = ", ".join(part for part in (error.problem, error.context) if part)
            if error.context_mark is not None and mark is not error.context_mark:
                said += f" that starts at line {error.context_mark.line + 1}"
            hint = (
                "indent and separate with spaces, not tabs"
                if "'\\t'" in said
                else "quote text that has : # { [ & * ! or % in it"
            )
            self._stop(_mark(mark) if mark else Mark(1, 1), f"not valid YAML: {printable(said)}", hint)
        except yaml.reader.ReaderError as error:
            before = _LINE_END.split(self._text[: error.position])
            character = f"U+{ord(self._text[error.position]):04X}"
            self._stop(Mark(len(before), len(before[-1]) + 1), f"the character {character} is not allowed", "remove it")
        except (ValueError, OverflowError):
            at = _mark(loader.get_mark()) if loader is not None else Mark(1, 1)
            self._stop(at, "a number or an escape is out of range", "use \\uXXXX for characters")

    def _node(self, event: Any, at: Mark) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._place(self._aliased(event.anchor, at))
            return
        if event.tag is not None and not self._foreign:
            self._report(at, f"the tag {printable(_tag(event.tag))} is not allowed", "write the plain value")
        if isinstance(event, yaml.ScalarEvent):
            item = self._scalar(event, at)
            if event.anchor is not None:
                self._anchors[event.anchor] = item
            self._place(item)
            return
        if len(self._stack) >= self._bounds.depth:
            self._stop(at, f"nested more than {self._bounds.depth} deep")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        entries: dict[str, tuple[Mark, Item]] | None = {} if isinstance(event, yaml.MappingStartEvent) else None
        self._stack.append(_Open(at, event.anchor, entries, [], tag=_tag(event.tag or "")))

    def _scalar(self, event: Any, at: Mark) -> Item:
        text: str = event.value
        weight = 1 + len(text) // 64
        tag = _tag(event.tag or "")
        if event.style is not None or tag not in ("", "!reset", "!override"):
            value: Any = text
        elif text in _WORDS:
            value = _WORDS[text]
        elif _INT.fullmatch(text):
            value = int(text) if len(text) < 21 else 2**64
            if abs(value) >= 2**63 and self._foreign:
                value = text
            elif abs(value) >= 2**63:
                self._report(at, "a whole number beyond 64 bits", "put it in quotes if it is text")
                value = 0
        elif _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and not math.isfinite(float(text))):
            if not self._foreign:
                self._report(at, f"{text[:40]} is not a finite number", "write a number that has digits")
            value = text if self._foreign else 0.0
        else:
            value = float(text) if _FLOAT.fullmatch(text) else text
        if isinstance(value, str):
            value = _joined(value)
            if "\0" in value or _HALF.search(value):
                self._report(at, "text holds a character that cannot be stored (NUL or half of a surrogate pair)", "remove it")
                value = ""
        return Item(value, at, weight=weight, written=text, tag=tag)

    def _aliased(self, name: str | None, at: Mark) -> Item:
        self._aliases += 1
        if self._aliases > self._bounds.aliases:
            self._stop(at, f"more than {self._bounds.aliases} aliases", "write the values out")
        if name is None or name not in self._anchors:
            self._stop(at, f"*{printable(str(name))} refers to no anchor before it")
        item = self._anchors[name]
        if item is None:
            self._stop(at, f"*{printable(name)} stands inside what it refers to", "write the values out")
        return item

    def _place(self, item: Item) -> None:
        """Put a finished item where it belongs: as a key, a value, a list's next item or the root."""
        if not self._stack:
            self._root = item
            return
        top = self._stack[-1]
        top.weight += item.weight
        top.depth = max(top.depth, item.depth + 1)
        if len(self._stack) + item.depth > self._bounds.depth:
            self._stop(item.at, f"nested more than {self._bounds.depth} deep")
        if top.weight > self._bounds.values:
            self._stop(item.at, f"the file comes to more than {self._bounds.values} values", "keep data in files of their own")
        if top.entries is None:
            top.items.append(item)
        elif top.key is None:
            top.key = item
        else:
            if self._foreign and top.key.written == "<<":
                top.merged += item.items if item.items is not None else [item]
            else:
                self._entry(top.entries, top.key, item)
            top.key = None

    def _entry(self, entries: dict[str, tuple[Mark, Item]], key: Item, item: Item) -> None:
        name = key.written if self._foreign and key.entries is None and key.items is None else key.value
        if not isinstance(name, str):
            what = "a list or mapping" if key.items is not None or key.entries is not None else printable(repr(name))
            self._report(key.at, f"expected text as the key, found {what}", "put the key in quotes")
        elif name == "<<":
            self._report(key.at, "merge keys (<<) are not supported", "write the values out")
        elif name in entries:
            first = entries[name][0]
            self._report(
                key.at,
                f"the key `{printable(name)}` was given before, at {self._file}:{first.line}:{first.column}",
                "keep one of them",
            )
        else:
            entries[name] = (key.at, item)

    def _close(self) -> None:
        top = self._stack.pop()
        for merged in top.merged:
            if merged.entries is None or top.entries is None:
                self._report(merged.at, "expected a mapping to merge (<<)", "merge keys take mappings")
            else:
                top.entries |= {key: entry for key, entry in merged.entries.items() if key not in top.entries}
        if top.entries is None:
            values: Any = [child.value for child in top.items]
            item = Item(values, top.at, items=top.items, weight=top.weight, depth=top.depth, tag=top.tag)
        else:
            values = {key: child.value for key, (_, child) in top.entries.items()}
            item = Item(values, top.at, entries=top.entries, weight=top.weight, depth=top.depth, tag=top.tag)
        if top.anchor is not None:
            self._anchors[top.anchor] = item
        self._place(item)

    def _report(self, at: Mark, message: str, hint: str = "") -> None:
        line = self._lines[at.line - 1] if at.line <= len(self._lines) else ""
        self._problems.append(Problem(self._file, at, message, hint, line))

    def _stop(self, at: Mark, message: str, hint: str = "") -> NoReturn:
        """Raises: nothing after this place can be read."""
        self._report(at, message, hint)
        raise SpecMistakes(self._problems)


def _joined(text: str) -> str:
    """JSON, which is YAML too, escapes a character beyond 16 bits as two halves; PyYAML leaves them apart."""
    if text.isascii() or not _HALF.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


def _tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")
