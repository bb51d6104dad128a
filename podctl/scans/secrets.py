"""Keys of real services by their published forms. PURE.

What is found is told by its first letters and its length: a report must not be where a key is copied from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from podctl.evidence.scanned import ScanFinding

PEM = re.compile(r"-----BEGIN [A-Z0-9 ]*(?:PRIVATE KEY|CERTIFICATE)[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.S)
FORMS = re.compile(
    r"\b(?:A[KS]IA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|[sr]k_(?:live|test)_\w{8,}|whsec_\w{8,}"
    r"|sk-[A-Za-z0-9_-]{16,}|xox[a-z]-[\w-]{8,}|AIza[\w-]{20,}|eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?|SG\.[\w-]{10,}\.[\w-]{10,}"
    r"|npm_[A-Za-z0-9]{20,}|pypi-[\w-]{20,}|dop_v1_\w{20,}|hv[sb]\.[\w-]{16,}|[AS][CK][0-9a-f]{32}|key-[0-9a-f]{32}|ya29\.[\w-]{16,}"
    r"|NRAK-\w{16,}|dapi[0-9a-f]{32}|shp(?:at|ss|ca)_[0-9a-fA-F]{20,}|sq0(?:atp|csp)-[\w-]{20,})"
)
_USERINFO = re.compile(r"\b[a-z][a-z0-9+]{1,15}://[^\s/@:\"'<>]{0,80}:([^\s/@\"'<>]{6,200})@")
_PRIVATE = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----")
#: Characters of a key that are told.
_TOLD = 4


def keys_in(text: str, where: str, own: Iterable[str] = ()) -> list[ScanFinding]:
    """``own``: what podctl gave the agent for this attempt alone; written down, it is a habit that leaks real ones."""
    found = [
        ScanFinding("secret.own", "medium", where, "a key or password of this attempt was written down", _line(text, at))
        for secret in own
        if secret and (at := text.find(secret)) >= 0
    ]
    for match in FORMS.finditer(text):
        what = f"what looks like a key: {match[0][:_TOLD]}… ({len(match[0])} characters)"
        found.append(ScanFinding("secret.key", "high", where, what, _line(text, match.start())))
    for match in _PRIVATE.finditer(text):
        found.append(ScanFinding("secret.private-key", "high", where, "a private key", _line(text, match.start())))
    for match in _USERINFO.finditer(text):
        if match[1] not in own:
            found.append(ScanFinding("secret.url", "high", where, "a password in an address", _line(text, match.start())))
    return found


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
