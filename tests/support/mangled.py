"""Requests that are made to be read in two ways, what servers make of them, and the rules that they are tried on."""

from __future__ import annotations

import itertools
import posixpath
import random
import re
from collections.abc import Iterator
from urllib.parse import unquote

from podctl.spec.models import Boundary

#: Beside each rule, the paths that it is about, written apart from the rules' own reading.
TEMPLATES = {
    "GET /orders/{id}": ("read", r"/orders/[^/]+"),
    "POST /orders/{id}/cancel": ("ai-writable", r"/orders/[^/]+/cancel"),
    "POST /orders/{id}/refund": ("human-only", r"/orders/[^/]+/refund"),
    "PUT /files/{name}": ("ai-writable", r"/files/[^/]+"),
    "POST /notes/**": ("ai-writable", r"/notes(/.*)?"),
    "POST /notes/locked": ("recommend", r"/notes/locked"),
}
BOUNDARY = Boundary(
    apiVersion="podctl/v1",
    kind="Boundary",
    name="b",
    services={"orders": {written: level for written, (level, _) in TEMPLATES.items()}},  # type: ignore[misc]
)

PIECES = (
    *(
        "//",
        "/./",
        "/../",
        "/x/../",
        "/%2e/",
        "/%2E%2e/",
        "%2F",
        "\\",
        "%5C",
        ";",
        ";x=1",
        "%3b",
        "%00",
        "%c0%af",
        "%ff",
        "%252e",
    ),
    *(
        "%252F",
        "%",
        "%zz",
        "?",
        "?x=/../",
        "?_method=PUT",
        "#",
        "%23",
        "%EF%BC%8F",
        "%EF%BC%8E",
        "%EF%BD%8C",
        "%E2%80%8B",
        ".json",
    ),
    *("%20", "+", "/", "~", "*", "http://orders", "%6C", "L", "refund", "locked", "/locked", "a%40b", "7"),
)
BASES = (
    "GET /orders/7",
    "POST /orders/7/cancel",
    "POST /orders/7/refund",
    "PUT /files/a.txt",
    "POST /notes/a/b",
    "POST /notes/locked",
)


def mangled(path: str) -> Iterator[str]:
    """The path with each piece at each place where readings part: where segments begin and end."""
    places = [match.start() for match in re.finditer(r"/|(?<=/)|$", path)]
    for at, piece, over in itertools.product(places, PIECES, (0, 1)):
        yield path[:at] + piece + path[at + over :]


def requests(seed: int, twice: int) -> Iterator[tuple[str, str]]:
    """Method and target: every base mangled once, and ``twice`` of them mangled again."""
    rng = random.Random(seed)
    once = [(base.partition(" ")[0], path) for base in BASES for path in mangled(base.partition(" ")[2])]
    yield from once
    for method, path in rng.choices(once, k=twice):
        yield method, rng.choice(list(mangled(path)))


def readings(path: str) -> set[str]:
    """What servers make of a path: as it is; decoded once or twice; with dots, doubled slashes and parameters taken out; folded."""
    found = {path.partition("?")[0]}
    for change in (unquote, unquote, lambda p: p.replace("\\", "/"), lambda p: re.sub(";[^/]*", "", p), _normal, str.lower):
        found |= {change(one) for one in found}
    return found


def _normal(path: str) -> str:
    return posixpath.normpath(re.sub("/+", "/", path))


def refuse_other_readings(method: str, target: str) -> None:
    """Asserts that a request that was let through is one that a rule opens, and is so in every reading."""
    judged = "GET" if method == "HEAD" else method
    here = [
        (level, pattern)
        for written, (level, pattern) in TEMPLATES.items()
        if written.startswith(judged + " ") and re.fullmatch(pattern, target.partition("?")[0].removesuffix("/"))
    ]
    assert here and not {level for level, _ in here} & {"human-only", "recommend"}, (method, target)
    for read in readings(target):
        asked = read.rstrip("/")
        shut = [pattern for written, (level, pattern) in TEMPLATES.items() if level in ("human-only", "recommend")]
        assert judged != "POST" or not any(re.fullmatch(pattern, asked) for pattern in shut), (target, read)
        assert any(re.fullmatch(pattern, asked, re.IGNORECASE) for _, pattern in here), (target, read)
