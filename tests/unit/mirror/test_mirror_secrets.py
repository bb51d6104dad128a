"""No secret of a source is in what an import writes, and what shares one goes on to share one."""

from __future__ import annotations

import base64
import random
import re
import string
from pathlib import Path

import pytest
import yaml
from importing import compose, imported

from podctl.mirror.secrets import Ledger, is_secret, looks_random

FORMS = [
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "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",
    "AIzaSyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "SK0123456789abcdef0123456789abcdef",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA04up8hoqzS1\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", FORMS)
def test_a_form_that_is_known_is_found_under_any_name(secret: str, tmp_path: Path) -> None:
    environment = {
        "HARMLESS": secret,
        "TEXT": f"before {secret} after",
        "URL": f"http://web/x?k={secret}" if " " not in secret else "",
    }
    services = yaml.safe_dump({"web": {"image": "w", "ports": [80], "environment": environment, "command": ["run", secret]}})
    found = compose(tmp_path, services)
    for part in secret.split("\n")[:2]:
        assert part not in found.everything
    assert found.service("web")["environment"]["TEXT"].startswith("before podctl-replaced-")


SECRET_PLACES = {
    "by its name": {"environment": {"DB_PASSWORD": "{}"}},
    "in camel case": {"environment": {"dbPassword": "{}"}},
    "dotted": {"environment": {"spring.datasource.password": "{}"}},
    "in a URL": {"environment": {"QUEUE": "amqp://user:{}@queue:5672/x"}},
    "in a URL of somebody else's": {"environment": {"API": "https://user:{}@api.example.com/x"}},
    "in a query": {"environment": {"HOOK": "http://web/x?api_key={}&a=b"}},
    "in a connection string": {"environment": {"CONNECTION": "Server=sql;Database=x;User Id=sa;Password={};Encrypt=false"}},
    "in JSON": {"environment": {"SETTINGS": '{{"user": "a", "password": "{}"}}'}},
    "in a flag": {"command": "serve --db-password {} --port 1"},
    "in a flag with =": {"command": "serve --token={}"},
    "in words of their own": {"command": ["redis-server", "--requirepass", "{}"]},
    "in a script": {"command": ["sh", "-c", "export API_KEY={} && run"]},
    "in a health check": {"healthcheck": {"test": ["CMD-SHELL", "mysqladmin ping --password={}"]}},
    "as bearer": {"environment": {"HEADERS": "Authorization: Bearer {}"}},
}


@pytest.mark.parametrize("place", SECRET_PLACES)
@pytest.mark.parametrize("secret", ["Tr0ub4dor&3x", "correct7horse", "p455w0rd-for-Shop"])
def test_a_password_is_found_wherever_it_stands(place: str, secret: str, tmp_path: Path) -> None:
    if secret == "Tr0ub4dor&3x" and place in ("in a query", "in a script"):
        secret = "Tr0ub4dor3x!"
    services = yaml.safe_dump({"web": {"image": "w", "ports": [80], **SECRET_PLACES[place]}}, width=10_000)
    services = services.replace("{}", secret).replace("{{", "{").replace("}}", "}")
    assert secret in services
    found = compose(tmp_path, services)
    assert secret not in found.everything, found.everything
    assert "podctl-replaced-0001" in found.everything or place == "in a URL of somebody else's"  # a stub asks for no password


FILES = {
    "app.properties": "db.password={}\nserver.port=80\n",
    "app.yaml": "db:\n  user: a\n  password: '{}'\n",
    "app.json": '{{"client_secret": "{}", "size": 3}}',
    "app.xml": "<a><password>{}</password></a>",
    "app.ini": "[db]\npasswd = {}\n",
    "app.env": "export API_TOKEN={}\n",
    "app.toml": 'secret_key = "{}"\n',
    "nginx.conf": "proxy_pass http://u:{}@back:80/;\n",
    "password.txt": "{}\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_password_in_a_configuration_file_is_replaced_and_the_rest_stays(name: str, tmp_path: Path) -> None:
    secret = "s3cretOfTheShop"
    text = FILES[name].replace("{{", "{").replace("}}", "}").replace("{}", secret)
    found = compose(tmp_path, f"web: {{image: w, ports: [80], volumes: ['./{name}:/etc/app/{name}']}}", **{name: text})
    assert secret not in found.everything
    kept = (tmp_path / found.service("web")["files"][f"/etc/app/{name}"]).read_text()
    assert kept == ("podctl-replaced-0001" if name == "password.txt" else text.replace(secret, "podctl-replaced-0001"))


def test_a_secret_that_was_found_once_is_found_under_harmless_names_too(tmp_path: Path) -> None:
    found = compose(
        tmp_path,
        """
web:
  image: w
  ports: [80]
  environment: {DB_PASSWORD: blue42monkey, GREETING: 'say blue42monkey to them', ANOTHER_PASSWORD: blue42monkey}
  labels: [blue42monkey]
""",
    )
    environment = found.service("web")["environment"]
    assert "blue42monkey" not in found.everything
    assert environment["DB_PASSWORD"] == environment["ANOTHER_PASSWORD"] == "podctl-replaced-0001"
    assert environment["GREETING"] == "say podctl-replaced-0001 to them"


def test_what_others_call_a_secret_is_found_under_harmless_names(tmp_path: Path) -> None:
    """A database's own password, what a profile that is left out has, a secret file's content."""
    found = compose(
        tmp_path,
        """
db: {image: 'postgres:16', environment: {POSTGRES_PASSWORD: blue42monkey}}
later: {image: x, profiles: [p], environment: {API_KEY: green42donkey}}
web:
  image: w
  ports: [80]
  environment: {A: 'x blue42monkey', B: green42donkey}
  volumes: ['./plain.txt:/etc/web/plain.txt']
""",
        **{"plain.txt": "one blue42monkey two green42donkey"},
    )
    assert not any(secret in found.everything for secret in ("blue42monkey", "green42donkey"))
    text = "services: {a: {image: x, environment: {C: 'red42turkey!'}}}\nsecrets: {word: {file: word.txt}}"
    assert "red42turkey" not in imported(tmp_path / "more", {"compose.yaml": text, "word.txt": "red42turkey!\n"}).everything


@pytest.mark.parametrize(
    "command",
    [
        ["redis-cli", "-a", "{}", "ping"],
        ["sh", "-c", "redis-cli -h x -a {} ping | grep PONG"],
        ["mysqladmin", "ping", "-p{}"],
        ["/usr/bin/mysql", "-u", "root", "-p", "{}"],
        ["sh", "-c", "mongosh -u a -p {} --eval x"],
    ],
)
def test_a_clients_short_flag_is_known(command: list[str], tmp_path: Path) -> None:
    words = [word.replace("{}", "foobared") for word in command]
    services = yaml.safe_dump(
        {"web": {"image": "w", "ports": [80], "healthcheck": {"test": ["CMD", *words]}, "command": words}}
    )
    found = compose(tmp_path, services)
    assert "foobared" not in found.everything


def test_a_clusters_own_filling_in_reaches_the_word_in_its_place(tmp_path: Path) -> None:
    env = [
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "QUEUE", "value": "amqp://user:$(WORD)@queue:5672"},
        {"name": "PLAIN", "value": "$(NOBODY)"},
    ]
    container = {"name": "web", "image": "w", "env": env}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [container]}}
    environment = imported(tmp_path, {"pod.yaml": yaml.safe_dump(pod)}).service("web")["environment"]
    assert environment["QUEUE"] == f"amqp://user:{environment['WORD']}@queue:5672" and environment["PLAIN"] == "$(NOBODY)"


def test_what_is_no_secret_stays(tmp_path: Path) -> None:
    harmless = {
        "TOKEN_EXPIRY_SECONDS": "3600",
        "PRIVATE_KEY_PATH": "/etc/keys/private.pem",
        "POSTGRES_PASSWORD_FILE": "/run/secrets/db",
        "AUTH_ENABLED": "true",
        "MYSQL_ALLOW_EMPTY_PASSWORD": "yes",
        "JWT_ALGORITHM": "RS256",
        "SESSION_TIMEOUT": "30m",
        "KEY_PREFIX": "shop:",
        "JAVA_OPTS": "-Xms64m -XX:+UseG1GC -Djava.security.egd=file:/dev/urandom",
        "CLASS": "org.springframework.boot.autoconfigure.jdbc.DataSourceAutoConfiguration",
        "IMAGE": "a/b@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "NODES": "mongodb-replica-set-production-01,mongodb-replica-set-production-02",
        "AUTH_URL": "http://auth:80/token",
    }
    services = yaml.safe_dump({"web": {"image": "w", "ports": [80], "environment": harmless}})
    found = compose(tmp_path, services)
    assert found.service("web")["environment"] == harmless and found.imported.secrets == 0


def test_a_manifests_secret_is_never_carried_over_though_its_keys_are_served(tmp_path: Path) -> None:
    word, url = "mongo4pass!word", "postgresql://shop:q9w8e7r6@db:5432/shop"
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "shop"},
        "data": {"word": base64.b64encode(word.encode()).decode(), "url": base64.b64encode(url.encode()).decode()},
        "stringData": {"plain": "alsoA5ecret"},
    }
    references = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": "shop", "key": key}}}
        for name, key in (("A", "word"), ("B", "word"), ("C", "plain"), ("URL", "url"), ("D", "missing"))
    ]
    container = {
        "name": "web",
        "image": "w",
        "env": [*references, {"name": "E", "value": word}],
        "ports": [{"containerPort": 80}],
    }
    container["volumeMounts"] = [{"name": "keys", "mountPath": "/keys"}]
    pod = {"containers": [container], "volumes": [{"name": "keys", "secret": {"secretName": "shop"}}]}
    run = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": pod}
    database = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "db"},
        "spec": {"containers": [{"name": "db", "image": "postgres:16"}]},
    }
    text = yaml.safe_dump_all([manifest, run, database])
    found = imported(tmp_path, {"all.yaml": text})
    for secret in (word, "q9w8e7r6", "alsoA5ecret", *manifest["data"].values()):
        assert secret not in found.everything
    environment = found.service("web")["environment"]
    assert environment["A"] == environment["B"] == environment["E"] != environment["C"]
    assert environment["URL"] == "${db.url}" and environment["D"].startswith("podctl-replaced-")
    assert sorted(found.service("web")["files"]) == ["/keys/plain", "/keys/url", "/keys/word"]
    assert found.said("Secret shop")[0].startswith("changed: its values are not carried over")


alphabet = string.ascii_letters + string.digits


@pytest.mark.parametrize("kind", ["hex", "base62", "base64"])
@pytest.mark.parametrize("length", [24, 32, 48])
def test_random_tokens_look_random(kind: str, length: int) -> None:
    """Of those whose name says nothing and whose form is nobody's: all but a few."""
    source = random.Random(1)
    letters = {"hex": "0123456789abcdef", "base62": alphabet, "base64": alphabet + "+/"}[kind]
    tokens = ["".join(source.choice(letters) for _ in range(length)) for _ in range(2_000)]
    missed = sum(token in Ledger().clean(f"x {token} y") for token in tokens)
    assert missed <= 2_000 * (0.03 if length == 24 else 0.01), missed


@pytest.mark.parametrize(
    "word", ["internationalization-of-services", "getCustomerOrdersByRegion", "version-2024-10-01-release", "a" * 40]
)
def test_words_do_not(word: str) -> None:
    assert not looks_random(word) and Ledger().clean(word, "NAME") == word


def test_a_replacement_says_nothing_of_what_it_replaces() -> None:
    one, other = Ledger(), Ledger()
    assert one.word("first") == other.word("another") == "podctl-replaced-0001"
    assert re.fullmatch(r"podctl-replaced-\d{4}", one.word("second"))
    assert one.clean(one.word("first"), "PASSWORD") == "podctl-replaced-0001", "what was replaced is not replaced again"
    assert not is_secret("PASSWORD", "${db.password}")
