"""What a request to a service asks for, read so that no service can read it otherwise; else, why not.

Servers differ in what they do with ``..``, ``%2F``, ``//``, ``;x=1`` or a header that names another method. Whatever leaves a
choice is refused: the decision and the service then see the same route.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote_plus, unquote_to_bytes

_METHOD = re.compile(r"[A-Z]{1,32}")
#: Segments, nearly all of them, of which there is one reading: ASCII, nothing encoded, not dots alone.
_PLAIN = re.compile(r"[._~-]*[A-Za-z0-9][A-Za-z0-9._~-]*")
_ESCAPE = re.compile(r"%(..?)?")
#: Headers by which frameworks and proxies let a request be another: their method, their path.
OVERRIDES = frozenset(
    {"x-http-method-override", "x-http-method", "x-method-override", "x-method", "x-original-method", "x-envoy-original-method"}
    | {"x-original-url", "x-original-uri", "x-original-path", "x-rewrite-url", "x-rewrite-uri", "x-envoy-original-path"}
    | {"x-forwarded-uri", "x-forwarded-path", "x-forwarded-method", "x-forwarded-prefix", "x-script-name"}
)
#: Query parameters by which frameworks do the same.
_OVERRIDING = frozenset({"_method", "x-http-method-override", "_http_method"})
#: What some servers take for the end of a segment, or of the path.
_MARKS = {
    "/": "an encoded slash",
    "\\": "a backslash",
    ";": "a semicolon: some services drop what follows",
    "?": "an encoded question mark",
    "#": "an encoded number sign",
}


class Ambiguous(Exception):
    """A request that two servers could read as two; the text says why."""


@dataclass(frozen=True)
class Asked:
    """``segments`` as they were sent, ``folded`` as the loosest server would compare them: decoded, of one case and form.

    ``method`` is GET for HEAD. ``slash``: the path ends with one, beside the root.
    """

    method: str
    segments: tuple[str, ...]
    folded: tuple[str, ...]
    slash: bool


def read_target(method: str, target: str, headers: Iterable[str] = ()) -> Asked:
    """``target`` is what stands in the request's line, ``headers`` their names. Raises `Ambiguous`."""
    if not _METHOD.fullmatch(method):
        raise Ambiguous("a method that is not all capital letters")
    for header in headers:
        name = header.lower().replace("_", "-")
        if name in OVERRIDES:
            raise Ambiguous(f"the header {name}, by which some services take a request for another")
    if not target.startswith("/"):
        raise Ambiguous("a target that is not a path")
    if not target.isascii() or any(ord(c) <= 0x20 or ord(c) == 0x7F for c in target):
        raise Ambiguous("control characters, spaces or characters beyond ASCII that are not encoded")
    if "#" in target:
        raise Ambiguous("a fragment")
    path, _, query = target.partition("?")
    for parameter in re.split("[&;]", query):
        if unquote_plus(parameter.partition("=")[0]).strip().lower() in _OVERRIDING:
            raise Ambiguous("a query that names another method")
    slash = path.endswith("/") and path != "/"
    segments = path[1:].removesuffix("/").split("/") if path != "/" else []
    return Asked("GET" if method == "HEAD" else method, tuple(segments), tuple(map(_folded, segments)), slash)


def _folded(segment: str) -> str:
    if _PLAIN.fullmatch(segment):
        return segment.lower()
    if "%" not in segment:
        text = segment
    else:
        for escape in _ESCAPE.findall(segment):
            if not re.fullmatch("[0-9A-Fa-f]{2}", escape):
                raise Ambiguous("a broken percent-encoding")
            byte = chr(int(escape, 16))
            if byte.isascii() and (byte.isalnum() or byte in "-_."):
                raise Ambiguous(f"an encoding of {byte!r}, which needs none")
        try:
            text = unquote_to_bytes(segment).decode("utf-8")
        except UnicodeDecodeError:
            raise Ambiguous("a percent-encoding that is not UTF-8") from None
    # Compatibility forms too: to some libraries a full-width solidus is one.
    folded = unicodedata.normalize("NFKC", text).casefold()
    for form in (text, folded):
        _refuse_marks(form)
    return folded


def _refuse_marks(text: str) -> None:
    if text.strip(" .") == "":
        raise Ambiguous("a segment that is empty, or of dots or spaces")
    if re.search(r"%[0-9A-Fa-f]{2}", text):
        raise Ambiguous("an encoding within an encoding")
    for mark, what in _MARKS.items():
        if mark in text:
            raise Ambiguous(f"a segment with {what}")
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") or c in "\u2028\u2029" for c in text):
        raise Ambiguous("encoded control or invisible characters")
