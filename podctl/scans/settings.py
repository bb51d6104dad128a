"""Shell, containers, clusters, schedules and grants: what is dangerous by what a line says. PURE.

Few rules, each of which a reader agrees with at a glance. A line is looked at alone, and a long one in pieces that overlap:
what an agent wrote may be made to keep a pattern busy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from podctl.evidence.scanned import ScanFinding, Severity

#: Characters of a line that are looked at together, and how far the next ones lie behind; no rule needs more than the difference.
_PIECE, _STEP = 2_000, 1_200
#: Lines of a text that are looked at.
LINES = 20_000


@dataclass(frozen=True)
class Rule:
    id: str
    severity: Severity
    what: str
    pattern: re.Pattern[str]


def _rule(name: str, severity: Severity, what: str, pattern: str) -> Rule:
    return Rule(f"config.{name}", severity, what, re.compile(pattern, re.I))


RULES = (
    _rule("remote-script", "high", "runs what it downloads", r"\b(?:curl|wget)\b[^|\n]{0,500}\|\s*(?:sudo\s+)?(?:ba|z|da|k)?sh\b"),
    _rule("remote-script", "high", "runs what it downloads", r"\b(?:curl|wget)\b[^|\n]{0,500}\|\s*(?:sudo\s+)?(?:python3?|perl|ruby|node)\b"),
    _rule("remote-script", "high", "runs what it downloads", r"\b(?:ba|z|da)?sh\b\s+(?:-c\s+)?[\"']?[<$]\(\s*(?:curl|wget)\b"),
    _rule("reverse-shell", "high", "gives a shell to another machine", r"/dev/(?:tcp|udp)/[\w.-]{1,100}/\d|\b(?:nc|ncat)\b[^\n]{0,100}\s-[a-z]{0,4}[ec]\s+/?\S{0,40}sh\b"),
    _rule("setuid", "high", "makes a program run as its owner", r"\bchmod\b[^\n]{0,60}\s(?:[ug]\+[rwx]{0,2}s|0?[2467][0-7]{3})\b"),
    _rule("world-writable", "medium", "lets everybody write a file", r"\bchmod\b[^\n]{0,60}\s(?:0?[0-7][0-7][2367]|[ao]\+[rx]{0,2}w)\b"),
    _rule("no-password", "high", "lets a user become root without a password", r"\bNOPASSWD\s*:"),
    _rule("login-key", "high", "lets somebody log in from now on", r"\.ssh/authorized_keys|^(?:ssh-(?:rsa|ed25519)|ecdsa-sha2-\S+) AAAA"),
    _rule("schedule", "medium", "is run again later", r"\bcrontab\s+-(?!l)|\bcrontab\s+[^-\s]|/etc/cron|^\s*@(?:reboot|hourly|daily)\s+\S|\bsystemctl\b[^\n]{0,40}\benable\b"),
    _rule("preload", "high", "puts code into other programs", r"\bLD_PRELOAD\s*=\s*\S|/etc/ld\.so\.preload"),
    _rule("all-addresses", "medium", "listens to every network", r"(?:\b(?:host|bind|listen|addr(?:ess)?)\w*[\"']?\s*[=:,( ]\s*[\"']?0\.0\.0\.0\b|--(?:host|bind|listen)\S{0,10}[= ]0\.0\.0\.0\b|\b0\.0\.0\.0:\d{1,5}\b)"),
    _rule("no-tls-check", "medium", "does not look at certificates", r"\bcurl\b[^\n|]{0,300}\s(?:-[a-z]{0,5}k\b|--insecure\b)|\bwget\b[^\n|]{0,300}--no-check-certificate|NODE_TLS_REJECT_UNAUTHORIZED\s*[=:]\s*[\"']?0|StrictHostKeyChecking[= ]no|\bsslmode=(?:disable|allow)\b|http\.sslVerify[= ]false"),
    _rule("privileged", "high", "a container with the machine's rights", r"^\s*[\"']?privileged[\"']?\s*:\s*true|--privileged\b|docker\.sock\b|^\s*(?:-\s*)?[\"']?(?:hostPID|hostNetwork|hostIPC|allowPrivilegeEscalation)[\"']?\s*:\s*true"),
    _rule("cluster-admin", "high", "every right in a cluster", r"\bcluster-admin\b"),
    _rule("grant", "high", "gives rights in a database", r"\bGRANT\s+(?:ALL|SUPERUSER)\b|\b(?:ALTER|CREATE)\s+(?:ROLE|USER)\b[^;\n]{0,200}\b(?:SUPERUSER|BYPASSRLS|CREATEROLE)\b|\bSECURITY\s+DEFINER\b"),
    _rule("wipe", "high", "removes everything", r"\brm\s+(?:-\w+\s+){1,4}(?:--no-preserve-root\s+)?[\"']?/(?:\*|\s|$|[\"'])"),
)  # fmt: skip
#: Files that are run because of where they lie or what they are called.
_PLACES = (
    ("config.schedule", "medium", "is run again later", re.compile(r"(^|/)(cron\.(d|daily|hourly|weekly|monthly)/|crontabs?(/|$))|\.(timer|service)$")),
    ("config.startup", "medium", "is run whenever somebody logs in or Python starts", re.compile(r"(^|/)(\.bashrc|\.bash_profile|\.profile|\.zshrc|sitecustomize\.py|usercustomize\.py|[^/]+\.pth)$")),
    ("config.hook", "medium", "is run by git", re.compile(r"(^|/)\.git/hooks/[^/.]+$")),
    ("config.login-key", "high", "lets somebody log in from now on", re.compile(r"(^|/)authorized_keys$")),
)  # fmt: skip
_SETUID = 0o6000


def lines_of(text: str, where: str) -> list[ScanFinding]:
    """What the rules say of each line; a rule is told once a place."""
    found: dict[str, ScanFinding] = {}
    for number, line in enumerate(text.splitlines()[:LINES], 1):
        for start in range(0, max(1, len(line) - _PIECE + _STEP), _STEP):
            for rule in RULES:
                if rule.id not in found and rule.pattern.search(line, start, start + _PIECE):
                    found[rule.id] = ScanFinding(rule.id, rule.severity, where, rule.what, number)
    return list(found.values())


def place_of(path: str, mode: int, content: bytes) -> list[ScanFinding]:
    """What a file's name, mode and first bytes say."""
    severity: Severity
    found = [
        ScanFinding(rule, "high" if level == "high" else "medium", path, what)
        for rule, level, what, pattern in _PLACES
        if pattern.search(path)
    ]
    if mode & _SETUID:
        found.append(ScanFinding("file.setuid", "high", path, "runs as its owner or group (setuid or setgid)"))
    if content.startswith((b"\x7fELF", b"MZ")) or PurePosixPath(path).suffix in (".so", ".pyc"):
        severity = "medium"
        found.append(ScanFinding("file.program", severity, path, "a program without its source"))
    return found
