"""Secrets in a source's values: found by names, by forms that are known, and by how random they look. PURE.

What is found is replaced by a word that says nothing of it: the same value by the same word, so that what shares a password goes on to.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from podctl.scans.secrets import FORMS, PEM

REPLACED = re.compile(r"podctl-replaced-\d{4}")

_STRONG = r"passw(or)?d|passwort|passphrase|passcode|pwd|secret|credentials?|api_?key|apikey|private_?key|access_?key|signing_?key|encrypt(ion)?_?key"
_STRONG += r"|master_?key|account_?key|shared_?key|license_?key|auth_?key|connection_?string_?key|secret_?key|client_?secret|requirepass|webhook|salt"
_WEAK = r"token|auth|key|session|cookie|jwt|hash|cert(ificate)?|pat|otp|pin|nonce|signature|sig|bearer|dsn|pass"
_STRONG_NAME = re.compile(rf"(?:^|_)(?:{_STRONG})(?:s|\d*)(?:_|$)|(?:{_STRONG})$")
_WEAK_NAME = re.compile(rf"(?:^|_)(?:{_WEAK})(?:s|\d*)(?:_|$)")
#: Of what is about a secret and none itself.
_ABOUT = re.compile(
    r"_(type|mode|enabled?|disabled?|algorithm|alg|expir\w*|ttl|seconds|minutes|hours|days|ms|timeout|lifetime|age|interval|name|host|port|"
    r"prefix|issuer|audience|url|uri|endpoint|header|size|length|len|bits|count|limit|provider|method|scheme|realm|path|file|dir|directory|"
    r"store_type|policy|required|allowed|strategy|backend|domain|scope|version|format|encoding|service|address|addr|server|role)$"
)
_PLAIN = re.compile(r"(?i)true|false|yes|no|on|off|none|null|-?\d{1,6}(\.\d+)?(ms|s|m|h|d|k|mb?|gb?|%)?|\d+[smhd]\d*[smh]?")
#: Values of AUTH, SESSION, COOKIE and the like that say how, not what.
_WAYS = {
    "strict",
    "bearer",
    "digest",
    "oauth2",
    "default",
    "memory",
    "database",
    "cookie",
    "header",
    "disabled",
    "enabled",
    "required",
}
_WAYS |= {
    "optional",
    "public",
    "always",
    "never",
    "sha256",
    "sha512",
    "bcrypt",
    "argon2",
    "scrypt",
    "native",
    "internal",
    "external",
}
_WAYS |= {"session", "memcached", "kerberos", "anonymous", "secure", "httponly"}
_PATH = re.compile(r"(\.{0,2}/[\w.@+-]+)+/?|[A-Za-z]:\\.*")

_SLACK = re.compile(r"(?<=hooks\.slack\.com/services/)[\w/]+")
_BEARER = re.compile(r"(?i)(?<=\bbearer )[\w.~+/-]{8,}=*|(?<=\bbasic )[A-Za-z0-9+/]{8,}=*")
_TOKEN = re.compile(r"[A-Za-z0-9+_-]{20,}={0,2}|[A-Za-z0-9+/]{24,}={0,2}")
_USERINFO = re.compile(r"(?<=://)([^\s/@:\"'<>]*):([^\s/@\"'<>]+)(?=@)")
_QUERY = re.compile(r"(?<=[?&])(?P<key>[\w.\-\[\]]+)(?P<sep>=)(?P<value>[^\s&\"'<>#]+)")
_SEPARATED = re.compile(
    r"""(?<![\w./@])(?P<key>[A-Za-z_][\w.\-]{0,60})(?P<sep>["']?[ \t]*(?:=|:(?!//))[ \t]*)(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s;,"'<>}\])]+)"""
)
_FLAG = re.compile(r"""(?P<key>(?<![\w-])--?[A-Za-z][\w-]*)(?P<sep>[ =]\s*)(?P<value>"[^"\n]*"|'[^'\n]*'|[^\s"'-][^\s"']*)""")
_ELEMENT = re.compile(r"<(?P<key>[A-Za-z][\w.\-]{0,60})(?P<sep>[^<>]{0,200}>)(?P<value>[^<>\n]+)(?=</)")
#: Programs whose short flag takes a password.
_LOGINS = {
    "redis-cli": "-a",
    "valkey-cli": "-a",
    "mysql": "-p",
    "mysqladmin": "-p",
    "mysqldump": "-p",
    "mariadb": "-p",
    "mariadb-admin": "-p",
}
_LOGINS |= {
    "mongo": "-p",
    "mongosh": "-p",
    "mongodump": "-p",
    "clickhouse-client": "--password",
    "sqlcmd": "-P",
    "rabbitmqadmin": "-p",
}
_LOGIN = re.compile(
    r"\b(?:(?:redis|valkey)-cli\b[^|;&\n]{0,200}?\s-a\s+|(?:mysql\w*|mariadb(?:-\w+)?|mongo\w*|rabbitmqadmin)\b[^|;&\n]{0,200}?\s-p\s?|sqlcmd\b[^|;&\n]{0,200}?\s-P\s+)"
    r"(?P<value>[^\s|;&\"'$-][^\s|;&\"']*)"
)
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}|sha(?:1|256|384|512)-[A-Za-z0-9+/=]+")


def strength(name: str) -> int:
    """2: the name of a secret; 1: perhaps; 0: not."""
    flat = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    flat = re.sub(r"[^a-z0-9]+", "_", flat.lower()).strip("_")
    if _STRONG_NAME.search(flat):
        return 1 if _ABOUT.search(flat) else 2
    if _WEAK_NAME.search(flat):
        return 0 if _ABOUT.search(flat) else 1
    return 0


def is_secret(name: str, value: str) -> bool:
    """Whether a value of that name has to be replaced as a whole."""
    if not value or value.startswith("${") or REPLACED.fullmatch(value) or (_PLAIN.fullmatch(value) and strength(name) < 2):
        return False
    if strength(name) == 2:
        return not (_PATH.fullmatch(value) or re.fullmatch(r"(?i)true|false|yes|no", value) or "://" in value)
    if strength(name) == 1:
        return not _PATH.fullmatch(value) and "://" not in value and len(value) >= 6 and value.lower() not in _WAYS
    return False


def without_known(text: str, put: str = "podctl-replaced") -> str:
    """The text without keys of a form that is known, private keys and passwords in URLs; what merely looks random stays."""
    text = _USERINFO.sub(lambda match: f"{match[1]}:{put}", PEM.sub(put, text))
    for pattern in (FORMS, _SLACK, _BEARER):
        text = pattern.sub(put, text)
    return text


def looks_random(token: str) -> bool:
    """Twenty characters or more that change between digits, small and capital letters as words do not."""
    plain = [character for character in token if character.isalnum()]
    if len(plain) < 20:
        return False
    kinds = [0 if c.isdigit() else 1 if c.islower() else 2 for c in plain]
    turns = sum(a != b for a, b in pairwise(kinds)) / (len(kinds) - 1)
    counts = Counter(plain)
    entropy = -sum(n / len(plain) * math.log2(n / len(plain)) for n in counts.values())
    # Words written together turn as well, but not as often.
    return entropy >= 3.0 and turns >= (0.22 if any(c.isdigit() for c in plain) else 0.48)


class Ledger:
    """What was replaced. ``words`` maps secrets to what stands for them; it is never written."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}
        #: Texts that mean something else as well: a secret that is part of one is not looked for elsewhere.
        self.spared: set[str] = set()
        self._known: set[str] = set()

    def word(self, secret: str) -> str:
        return self.words.setdefault(secret, f"podctl-replaced-{len(self.words) + 1:04d}")

    def know(self, secret: str) -> None:
        """It is a secret wherever it may turn up, though nothing has been replaced yet."""
        if _is_no_word(secret):
            self._known.add(secret)

    def clean_argv(self, parts: Sequence[str]) -> list[str]:
        """A command's words; a flag's value may be the next of them."""
        made: list[str] = []
        program = ""
        for number, part in enumerate(parts):
            program = next((name for name in _LOGINS if re.search(rf"(^|/){name}$", part)), program)
            before = parts[number - 1] if number else ""
            own = _LOGINS.get(program, "")
            if (own and before == own) or (before.startswith("--") and is_secret(before, part)):
                made.append(self._part(part))
            elif own == "-p" and re.fullmatch(r"-p\S+", part) and not part.startswith("-p$"):
                made.append("-p" + self._part(part[2:]))
            else:
                made.append(self.clean(part))
        return made

    def clean(self, text: str, name: str = "") -> str:
        """The text without its secrets; ``name`` is what it is the value of."""
        if is_secret(name, text):
            return self.word(text)
        kept: list[str] = []

        def keep(match: re.Match[str]) -> str:
            kept.append(match[0])
            return f"\0{len(kept) - 1}\0"

        text = _DIGEST.sub(keep, text)
        text = PEM.sub(lambda match: self.word(match[0]), text)
        text = _USERINFO.sub(lambda match: f"{match[1]}:{self._part(match[2])}", text)
        for pattern in (_QUERY, _ELEMENT, _SEPARATED, _FLAG):
            text = pattern.sub(self._pair, text)
        text = _LOGIN.sub(lambda match: match[0][: match.start("value") - match.start()] + self._part(match["value"]), text)
        for pattern in (FORMS, _SLACK, _BEARER):
            text = pattern.sub(lambda match: self._part(match[0]), text)
        text = _TOKEN.sub(lambda match: self.word(match[0]) if _random(match[0]) else match[0], text)
        return re.sub(r"\0(\d+)\0", lambda match: kept[int(match[1])], text)

    def sweep(self, text: str) -> str:
        """The text without any secret that was found anywhere; words that mean other things too are left alone."""
        for secret, word in self._swept():
            if secret in text:
                word = word or self.word(secret)
                parts = re.split(r"(\$\$?\{[^{}]*\})", text)
                parts[::2] = [_without(part, secret, word) for part in parts[::2]]
                text = "".join(parts)
        return text

    def _swept(self) -> list[tuple[str, str]]:
        """Longest first."""
        found = [(secret, word) for secret, word in self.words.items() if _is_no_word(secret)]
        found += [(secret, "") for secret in self._known - self.words.keys()]
        found = [(secret, word) for secret, word in found if not any(secret in other for other in self.spared)]
        return sorted(found, key=lambda pair: -len(pair[0]))

    def _part(self, secret: str) -> str:
        return secret if secret.startswith(("${", "$${", "$(")) or REPLACED.fullmatch(secret) else self.word(secret)

    def _pair(self, match: re.Match[str]) -> str:
        value = match["value"]
        quote = value[0] if value[:1] in ('"', "'") else ""
        bare = value[1:-1] if quote else value
        key = match["key"].lstrip("-")
        if not is_secret(key, bare) or bare.startswith(("$", "{{", "<")) or REPLACED.search(bare):
            return match[0]
        if strength(key) == 1 and re.fullmatch(r"[A-Za-z][A-Za-z.:/_-]*", bare):
            return match[0]  # `key` and `auth` mean much else in a file
        return match[0][: match.start("value") - match.start()] + quote + self.word(bare) + quote


def _is_no_word(secret: str) -> bool:
    """Long enough, and not letters of one kind alone, which may be the name of something."""
    plain = re.sub(r"[-_.]", "", secret)
    return len(secret) >= 8 and not (plain.isalpha() and (plain.islower() or plain.isupper() or plain.istitle()))


def _without(text: str, secret: str, word: str) -> str:
    """Whole words of it; what is long is found within others, too."""
    pattern = re.escape(secret)
    return re.sub(pattern if len(secret) >= 16 else rf"(?<![A-Za-z0-9]){pattern}(?![A-Za-z0-9])", word, text)


def _random(token: str) -> bool:
    if REPLACED.search(token) or token.startswith("podctl-"):
        return False
    if token.count("/") > len(token) // 10:
        return False
    words = [part for part in token.split("/") if len(part) > 3 and part.isalpha() and (part.islower() or part.istitle())]
    if 2 * sum(map(len, words)) >= len(token):  # a path
        return False
    return looks_random(token)
