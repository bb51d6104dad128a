"""Free text: values that are known from classified columns, and what looks like a personal value or a secret."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ahocorasick_rs import AhoCorasick, MatchKind

from podctl.masking.codes import is_card, is_iban
from podctl.masking.problems import MaskingProblem
from podctl.masking.values import ValueMask, ValueMasks
from podctl.masking.watch import Knowledge, Watch
from podctl.spec.masking import TextPattern


@dataclass
class Beside:
    """What stands in the same row: the subject of its dates, and the names in it (mask, value)."""

    subject: bytes = b"*"
    names: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, order=True)
class Span:
    """A piece of text that is masked as a whole."""

    start: int
    minus_end: int
    mask: str

    @property
    def end(self) -> int:
        return -self.minus_end


def _span(start: int, end: int, mask: str) -> Span:
    return Span(start, -end, mask)


class TextMask:
    """Masks text by the same masks as columns, so that what joins there joins in text.

    What is known is what ``watch`` has learned when the first text is masked: mask tables without text before.
    """

    def __init__(self, masks: ValueMasks, watch: Watch, patterns: Mapping[str, TextPattern]) -> None:
        self._watch = watch
        self._by_mask: dict[str, ValueMask] = {}
        self._masks = masks
        self._patterns = [(_compiled(name, pattern.match), pattern.mask) for name, pattern in patterns.items()]
        self._known: _Known | None = None

    def masked(self, text: str, beside: Beside | None = None) -> str:
        if not text.isascii():
            text = unicodedata.normalize("NFC", text)
        if self._known is None:
            self._watch.knowledge.gather()
            self._known = _Known(self._watch.knowledge)
        spans = [*self._known.spans(text), *looks_like(text)]
        for pattern, mask in self._patterns:
            for match in pattern.finditer(text):
                group = 1 if pattern.groups and match.start(1) >= 0 else 0
                spans.append(_span(match.start(group), match.end(group), mask))
        if beside is not None:
            spans += _named(text, beside.names)
        if not spans:
            return text
        parts, at = [], 0
        for span in sorted(spans):
            if span.start < at or span.end == span.start:
                if span.end > at:  # a second finding reaches further: nothing of it may stay
                    parts.append(self._piece(text[at : span.end], span.mask))
                    at = span.end
                continue
            parts += [text[at : span.start], self._piece(text[span.start : span.end], span.mask)]
            at = span.end
        return "".join([*parts, text[at:]])

    def plain(self, text: str) -> str:
        return self.masked(text)

    def _piece(self, raw: str, mask: str) -> str:
        if mask not in self._by_mask:
            self._by_mask[mask] = self._masks.simple(mask)
        masked = self._watch.column("text", "", mask).masked(raw, self._by_mask[mask](raw))
        return masked or ""


def _compiled(name: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise MaskingProblem(
            f"the pattern {name} is no regular expression", code="masking-pattern", cause=str(error)
        ) from error


# ---- values known from columns ----


class _Known:
    """One search for all values that were learned; names' single words only where they are written with a capital."""

    def __init__(self, known: Knowledge) -> None:
        words = ((word, mask) for word, mask in known.words.items() if word not in known.values)
        self._values = [*known.values.items(), *words]
        self._whole = len(known.values)
        patterns = [value for value, _ in self._values]
        self._phones = frozenset(known.phones)
        self._search = AhoCorasick(patterns, matchkind=MatchKind.Standard) if patterns else None

    def spans(self, text: str) -> Iterator[Span]:
        if self._phones:
            for match in _NUMBER.finditer(text):
                if re.sub("[^0-9]", "", match[0])[-9:] in self._phones:
                    yield _span(match.start(), match.end(), "phone")
        if self._search is None:
            return
        for which, start, end in self._search.find_matches_as_indexes(_lowered(text), overlapping=True):
            if _is_apart(text, start, end) and (which < self._whole or text[start].isupper()):
                yield _span(start, end, self._values[which][1])


_NUMBER = re.compile(r"(?<![\w+])\+?\(?[0-9](?:[ ().\-/]{0,3}[0-9]){6,14}(?!\w)")


def _lowered(text: str) -> str:
    """In lower case, each character at its place."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c if len(c.lower()) != 1 else c.lower() for c in text)


def _is_apart(text: str, start: int, end: int) -> bool:
    return not (start and text[start - 1].isalnum()) and not (end < len(text) and text[end].isalnum())


def _named(text: str, names: list[tuple[str, str]]) -> Iterator[Span]:
    """Names of the same row, whole and by their words of three letters and more, however they are written."""
    if not names:
        return
    lower = _lowered(text)
    for mask, name in names:
        whole = unicodedata.normalize("NFC", name).strip().lower()
        yield from _found(text, lower, whole, mask)
        words = [word.strip(".,;()") for word in whole.split()]
        for at, word in enumerate(words):
            kind = mask if mask != "name" else "first-name" if at == 0 and len(words) > 1 else "last-name"
            if len(word) >= 3:
                yield from _found(text, lower, word, kind if len(words) > 1 or mask != "name" else mask)


def _found(text: str, lower: str, value: str, mask: str) -> Iterator[Span]:
    at = lower.find(value) if value else -1
    while at >= 0:
        if _is_apart(text, at, at + len(value)):
            yield _span(at, at + len(value), mask)
        at = lower.find(value, at + 1)


# ---- what looks like a value ----


_EMAIL = re.compile(r"(?<![\w.%+'-])[\w.%+'-]+@[\w-]+(?:\.[\w-]+)+")
_URL = re.compile(r"(?<!\w)[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s<>\"'\\]+")
_URL_SECRET = re.compile(
    r"://[^/?#]*@|[?#]|/(?=[^/]*[0-9])[A-Za-z0-9_~.=-]{16,}|/(?=[^/]*[a-z])(?=[^/]*[A-Z])[A-Za-z0-9_~=]{16,}"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?: ?[A-Za-z0-9]{1,4}){3,8}(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![0-9])[0-9](?:[ -]?[0-9]){11,18}(?![0-9])")
_SOCIAL = re.compile(r"(?<![0-9-])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![0-9-])")
_PHONES = (
    re.compile(r"(?<![\w+])\+ ?[0-9](?:[ ().\-/]{0,3}[0-9]){6,14}(?![0-9])"),
    re.compile(r"(?<![\w.\-/:+])\(?0[0-9]{1,5}\)?(?:[ .\-/]{1,3}[0-9]{2,8}){1,5}(?![\w:])"),
    re.compile(r"(?<![\w.\-/:+])(?:1[ .\-])?\(?[2-9][0-9]{2}\)?[ .\-]{0,2}[2-9][0-9]{2}[ .\-][0-9]{4}(?![\w\-])"),
    re.compile(r"(?<![\w.\-/:+])(?:0[1-9][0-9]{8,10}|00[1-9][0-9]{8,13})(?![\w\-])"),
)
_ADDRESS = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w.]*[0-9])")
#: Forms that makers of keys publish so that they can be found, and what follows a word that announces a secret.
_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:sk|pk|rk)[-_](?:[a-z]+[-_])*[A-Za-z0-9_-]{16,}"
    r"|\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abeprs]-[\w-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}"
    r"|AIza[\w-]{30,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}|SG\.[\w-]{16,}\.[\w-]{16,})"
    r"|\b(?:[0-9a-f]{32,}|(?=\w*[a-z])(?=\w*[A-Z])(?=\w*[0-9])\w{20,})\b"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
    re.DOTALL,
)
_ANNOUNCED = re.compile(
    r"(?:\b|_)(?:password|passwd|passwort|pwd|secret|token|api[ _-]?key|bearer|authorization)\b[\"']?"
    r"(?:\s{0,3}[:=]{1,2}>?\s{0,3}|\s+is:?\s+|\s+(?=[A-Za-z]*[0-9]))[\"']?(?:bearer\s+|basic\s+)?([^\s\"',;]{4,})",
    re.IGNORECASE,
)


def looks_like(text: str) -> Iterator[Span]:
    """What has the form of an address, a number or a secret, in no order and overlapping."""
    if "@" in text:
        yield from _all(_EMAIL, text, "email")
    if "://" in text:
        for match in _URL.finditer(text):
            if _URL_SECRET.search(match[0]):
                yield _span(match.start(), match.end(), "url")
    yield from _all(_SECRETS, text, "token")
    for match in _ANNOUNCED.finditer(text):
        yield _span(match.start(1), match.end(1), "token")
    if not _HAS_NUMBER.search(text):
        return
    yield from _ibans(text)
    for match in _CARD.finditer(text):
        if is_card(re.sub("[ -]", "", match[0])):
            yield _span(match.start(), match.end(), "card")
    yield from _all(_SOCIAL, text, "id")
    for pattern in _PHONES:
        for match in pattern.finditer(text):
            if 7 <= sum(character.isdigit() for character in match[0]) <= 16:
                yield _span(match.start(), match.end(), "phone")
    for match in _ADDRESS.finditer(text):
        if all(int(part) < 256 for part in match[0].split(".")):
            yield _span(match.start(), match.end(), "ip")


_HAS_NUMBER = re.compile("[0-9][^a-zA-Z]{0,4}[0-9]")


def _all(pattern: re.Pattern[str], text: str, mask: str) -> Iterator[Span]:
    return (_span(match.start(), match.end(), mask) for match in pattern.finditer(text))


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        found = match[0]
        while len(found) >= 15 and not is_iban(found):  # the words behind it may look like more of it
            found = found[:-1].rstrip()
        if len(found) >= 15:
            yield _span(match.start(), match.start() + len(found), "iban")
