"""A source's values as a test pod may have them: addresses lead into the pod, secrets are replaced. PURE."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from podctl.mirror import outside
from podctl.mirror.places import Places, Target
from podctl.mirror.said import Place
from podctl.mirror.secrets import Ledger, is_secret, strength
from podctl.mirror.workload import Text, Workload

_URL = re.compile(
    r"(?<![A-Za-z0-9+.:-])(?P<scheme>[A-Za-z][A-Za-z0-9+.:-]{0,40})://(?P<user>[^\s/?#\"'<>,;]*@)?(?P<host>\[[0-9a-fA-F:]+\]|[^\s/?#\"'<>;|\\)\]},:@]+)"
    r"(?::(?P<port>\d{1,5}))?(?P<path>/[^\s\"'<>?]*)?(?P<query>\?[^\s\"'<>]*)?"
)
_HOST_PORT = re.compile(r"(?<![\w.@/$-])(?P<host>[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?):(?P<port>\d{2,5})(?![\w.])")
_PAIR = re.compile(r"(?P<key>(?<![A-Za-z_])[A-Za-z][A-Za-z _]{0,40}?)\s*=\s*(?P<value>'[^']*'|\"[^\"]*\"|[^;\s]*)")
_SSL = re.compile(r"(?i)(?P<key>sslmode|ssl|tls|useSSL|encrypt)=(?P<value>require|verify-ca|verify-full|prefer|true|on)\b")
#: Names of variables whose value is a bare host.
_ADDRESS = re.compile(
    r"(host|hostname|endpoint|server|servers|addr|address|url|uri|base|domain|broker|brokers|cluster|node|nodes)$"
)
_DATABASE = re.compile(r"(^|_)(pg|postgres|postgresql|psql|db|database|sql|datasource|jdbc|rds|timescale|dbt)")
_DB_PART = {
    "password": re.compile(r"(password|passwd|pass|pwd)$"),
    "user": re.compile(r"(user|username|user_name|login|uid)$"),
    "name": re.compile(r"(db|database|dbname|db_name|database_name|_name|catalog)$"),
    "port": re.compile(r"port$"),
    "url": re.compile(r"(url|uri|dsn|connection_string|conn_str|connection)$"),
    "host": re.compile(r"(host|hostname|server|address|addr|endpoint)$"),
}
_DSN_KEYS = {
    "host": ("host", "server", "data source", "address", "addr", "hostname"),
    "port": ("port",),
    "user": ("user", "username", "user id", "userid", "uid", "user name"),
    "password": ("password", "pwd"),
    "name": ("database", "dbname", "initial catalog", "db"),
}


def flat(name: str) -> str:
    """``springDatasourceUrl``, ``spring.datasource.url``, ``--db-url`` -> words with underscores."""
    cased = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", cased.lower()).strip("_")


@dataclass
class Rewritten:
    """``why`` has what was changed; ``uses`` are the topology's parts that the value names."""

    text: str
    why: list[str] = field(default_factory=list)
    uses: list[Target] = field(default_factory=list)

    def note(self, why: str) -> None:
        if why not in self.why:
            self.why.append(why)


class Rewriter:
    def __init__(self, places: Places, ledger: Ledger) -> None:
        self._places, self._ledger = places, ledger
        self._near: dict[str, dict[str, set[str]]] = {}  # workload -> database -> variables that name its host

    def learn(self, workload: Workload) -> None:
        """Which databases the workload's variables lead to, so that a password beside a host finds its database."""
        near = self._near.setdefault(workload.name, {})
        for name, value in workload.environment.items():
            for target in self.rewrite(workload, name, value, learning=True).uses:
                if target.kind == "database":
                    near.setdefault(target.name, set()).add(flat(name))

    def rewrite(self, workload: Workload, name: str, value: Text, learning: bool = False) -> Rewritten:
        """The value of a variable or of an argument called ``name``."""
        if value.text is None:
            return self._unknown(workload, name, value)
        made = Rewritten(value.text.replace("${", "$${"))
        if value.text == "":
            return made
        self._urls(name, made, value.place)
        if not made.uses:
            self._dsn(made)
        self._hosts(made, name, value.place)
        self._bare(made, name, value.place)
        if learning:
            return made
        if not made.uses:
            self._part_of_database(workload, name, value, made)
        self._secrets(name, value, made)
        return made

    def clean(self, text: str, name: str = "") -> str:
        """A text that is not filled in (a file's): without secrets, its addresses as they are."""
        return self._ledger.clean(text, name)

    # ---- secrets ----

    def _secrets(self, name: str, value: Text, made: Rewritten) -> None:
        assert value.text is not None
        if value.secret and made.text == value.text.replace("${", "$${") and value.text not in ("true", "false"):
            made.text = self._ledger.word(value.text)
        else:
            flag = re.fullmatch(r"(--?[A-Za-z][\w.-]*=)(\S+)", made.text)  # all that follows is the value
            head, rest, name = (flag[1], flag[2], flag[1].strip("-=")) if flag else ("", made.text, "" if made.uses else name)
            made.text = head + self._ledger.clean(rest, name)
        if "podctl-replaced-" in made.text and "podctl-replaced-" not in value.text:
            made.note("a secret was replaced")

    def _unknown(self, workload: Workload, name: str, value: Text) -> Rewritten:
        """A value that only the source's secret store has."""
        database = self._nearest(workload, name)
        part = _part(flat(name)) if _DATABASE.search(flat(name)) else ""
        made = Rewritten("")
        if database is not None and part:
            made.text = f"${{{database.name}.{part}}}"
            made.note(f"{database.name}'s own {part}, in place of {value.about}")
            made.uses.append(database)
        else:
            made.text = self._ledger.word(f"\0{value.about}")
            made.note(f"{value.about} was not read: a word in its place")
        return made

    # ---- addresses ----

    def _urls(self, name: str, made: Rewritten, at: Place) -> None:
        def replaced(match: re.Match[str]) -> str:
            host, scheme = match["host"], match["scheme"]
            port = int(match["port"] or 0)
            target = self._target(host, scheme, port, (match["path"] or "").strip("/").partition("/")[0], at, made)
            if target is None:
                return match[0]
            path, query = match["path"] or "", match["query"] or ""
            if target.kind == "database":
                return self._database_url(target, scheme, match["user"] or "", path, query, made)
            if target.kind == "stub":
                target.paths.setdefault(re.sub(r"[^\w./~-].*", "", path) or "/", at)
                if scheme.lower() in ("http", "https"):
                    return f"${{{target.name}.url}}{path}{query}"
                return f"{scheme}://{match['user'] or ''}${{{target.name}.host}}:${{{target.name}.port}}{path}{query}"
            where = f"{target.name}.invalid" if target.workload is None else host
            number = match["port"]
            if target.kind == "service":
                number = self._port(target, port or _implied(scheme), number, made)
            return f"{scheme}://{match['user'] or ''}{where}{f':{number}' if number else ''}{path}{query}"

        made.text = _URL.sub(replaced, made.text)

    def _database_url(self, target: Target, scheme: str, user: str, path: str, query: str, made: Rewritten) -> str:
        query = _SSL.sub(lambda match: f"{match['key']}={'disable' if match['key'].lower() == 'sslmode' else 'false'}", query)
        if user and scheme in ("postgres", "postgresql") and not query:
            return f"${{{target.name}.url}}"
        login = f"${{{target.name}.user}}:${{{target.name}.password}}@" if user else ""
        query = re.sub(r"(?<=[?&]user=)[^&]*", f"${{{target.name}.user}}", query)
        query = re.sub(r"(?<=[?&]password=)[^&]*", f"${{{target.name}.password}}", query)
        name = f"/${{{target.name}.name}}" if path.strip("/") else path
        return f"{scheme}://{login}${{{target.name}.host}}:${{{target.name}.port}}{name}{query}"

    def _dsn(self, made: Rewritten) -> None:
        """``Host=db;Username=…;Password=…`` and ``host=db user=… password=…``."""
        pairs = [(match, match["key"].strip().lower()) for match in _PAIR.finditer(made.text)]
        hosts = [match["value"].strip("'\"") for match, key in pairs if key in _DSN_KEYS["host"]]
        host = re.sub(r"^tcp:", "", hosts[0]).partition(",")[0].partition(":")[0] if hosts else ""
        target = self._places.find(host) if host and len(pairs) > 1 else None
        if target is None or target.kind != "database":
            return
        known = {word: part for part, words in _DSN_KEYS.items() for word in words}

        def replaced(match: re.Match[str]) -> str:
            part = known.get(match["key"].strip().lower())
            if part is None:
                return _SSL.sub(
                    lambda found: f"{found['key']}={'disable' if found['key'].lower() == 'sslmode' else 'false'}", match[0]
                )
            return match[0][: match.start("value") - match.start()] + f"${{{target.name}.{part}}}"

        made.text = _PAIR.sub(replaced, made.text)
        made.uses.append(target)
        made.note(f"{target.name} is podctl's own")

    def _hosts(self, made: Rewritten, name: str, at: Place) -> None:
        """``host:port`` without a scheme."""

        def replaced(match: re.Match[str]) -> str:
            if made.text[: match.start()].endswith("://"):
                return match[0]
            host, port = match["host"], int(match["port"])
            known = self._places.find(host)
            if known is not None and known.kind == "database" and not _is_port_of(known, port):
                return match[0]  # an image's tag, say
            if known is None and not (outside.is_host(host) and (outside.recognised(host) or _ADDRESS.search(flat(name)))):
                return match[0]
            target = self._target(host, "", port, "", at, made)
            if target is None:
                return match[0]
            if target.kind in ("database", "stub"):
                target.paths.setdefault("/", at)
                return f"${{{target.name}.host}}:${{{target.name}.port}}"
            if target.kind == "left-out" and target.workload is None:
                return f"{target.name}.invalid:{port}"
            return f"{host}:{self._port(target, port, match['port'], made)}"

        made.text = _HOST_PORT.sub(replaced, made.text)

    def _bare(self, made: Rewritten, name: str, at: Place) -> None:
        """A value that is a host, or several."""
        parts = re.split(r"(\s*,\s*)", made.text)
        for number, part in enumerate(parts):
            known = self._places.find(part) if part else None
            foreign = outside.is_host(part) and (outside.recognised(part) or _ADDRESS.search(flat(name)) is not None)
            if known is None and not foreign:
                continue
            if known is not None and not (_ADDRESS.search(flat(name)) or known.kind == "database" or known.workload is None):
                continue
            if known is not None and known.kind == "database" and not _ADDRESS.search(flat(name)):
                continue  # a database's or user's name that is the host's too
            target = self._target(part, "", 0, "", at, made)
            if target is None:
                continue
            if target.kind in ("database", "stub"):
                target.paths.setdefault("/", at)
                parts[number] = f"${{{target.name}.host}}"
            elif target.kind == "left-out" and target.workload is None:
                parts[number] = f"{target.name}.invalid"
        made.text = "".join(parts)

    def _target(self, host: str, scheme: str, port: int, database: str, at: Place, made: Rewritten) -> Target | None:
        target = self._places.find(host)
        if target is None:
            if outside.is_loopback(host) or not outside.is_host(host):
                return None
            target = self._places.elsewhere(host, scheme, port, re.sub(r"[^\w-]", "", database), at)
        made.uses.append(target)
        if target.kind == "database":
            made.note(f"{target.name} is podctl's own")
        elif target.kind == "stub":
            made.note(f"{target.name} is a stub")
        elif target.kind == "left-out":
            made.note(f"{target.name} is left out: nothing answers there")
        return target

    def _port(self, target: Target, port: int, written: str | None, made: Rewritten) -> str | None:
        """A cluster's service may have another port than what runs behind it; a pod has no such turn."""
        own = target.workload.port_of.get(port) if target.workload is not None else None
        if own is None or own == port:
            return written
        made.note(f"port {port} of {target.name} is {own} in a pod")
        return str(own)

    # ---- parts of a database's address ----

    def _part_of_database(self, workload: Workload, name: str, value: Text, made: Rewritten) -> None:
        assert value.text is not None
        target = self._nearest(workload, name)
        words = flat(name)
        part = _part(words)
        if target is None or not part or part in ("host", "url"):
            return
        about = _DATABASE.search(words) is not None
        fits = {
            "password": about or (value.text == target.password != "" and strength(name) > 0),
            "user": (about and value.text != "") or (value.text == target.user != ""),
            "name": about and value.text == target.database,
            "port": about and value.text == "5432",
        }[part]
        if fits:
            made.text = f"${{{target.name}.{part}}}"
            made.uses.append(target)
            made.note(f"{target.name}'s own {part}")
            if part == "password" and value.text != target.password and is_secret(name, value.text):
                self._ledger.word(value.text)

    def _nearest(self, workload: Workload, name: str) -> Target | None:
        """The one database that the workload uses; of several, the one whose host's variable is called most alike."""
        near = self._near.get(workload.name) or {}
        names = list(near)
        if not names:
            databases = [target for target in self._places.targets.values() if target.kind == "database"]
            waits = [one.name for one in databases if one.workload is not None and one.workload.name in workload.depends_on]
            names = waits or ([databases[0].name] if len(databases) == 1 else [])
        if len(names) == 1:
            return self._places.targets[names[0]]
        scored = sorted(((max(_alike(flat(name), host) for host in near[one]), one) for one in near), reverse=True)
        if len(scored) > 1 and scored[0][0] > scored[1][0]:
            return self._places.targets[scored[0][1]]
        return None


def _is_port_of(target: Target, port: int) -> bool:
    workload = target.workload
    return port == 5432 or workload is None or port in workload.ports or port in workload.port_of


def _part(words: str) -> str:
    return next((part for part, pattern in _DB_PART.items() if pattern.search(words)), "")


def _implied(scheme: str) -> int:
    return {"http": 80, "https": 443, "ws": 80, "wss": 443, "grpc": 80}.get(scheme.lower(), 0)


def referenced(texts: Iterable[str], host: str) -> set[int]:
    """Ports by which texts call a host."""
    pattern = re.compile(rf"(?<![\w.-]){re.escape(host)}:(\d{{2,5}})(?!\d)", re.I)
    return {int(port) for text in texts for port in pattern.findall(text) if 0 < int(port) < 65536}


def _alike(first: str, second: str) -> int:
    """How many characters two names begin alike with."""
    return next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second)))
