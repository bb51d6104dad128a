"""Bad specs, each with its mistake's place: the text has ▲ where the caret must point."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import model_validator

from podctl.errors import SpecError
from podctl.spec.load import load_model
from podctl.spec.models import Agent, Boundary, Model, Scenario, Tickets, Topology
from podctl.spec.problems import SpecMistakes

T = "apiVersion: podctl/v1\nkind: Topology\nname: shop\n"
B = "apiVersion: podctl/v1\nkind: Boundary\nname: support\n"
A = "apiVersion: podctl/v1\nkind: Agent\nname: rules\nversion: '1'\ncommand: [run]\ndirectory: .\n"
K = "apiVersion: podctl/v1\nkind: Tickets\nname: mail\nsource: rows.csv\n"
S = "apiVersion: podctl/v1\nkind: Scenario\nname: first\ntopology: there\ntickets: there\nagent: there\nboundary: there\n"
C = S + "checks: [{kind: state}]\n"
SERVICE = T + "services:\n  api:\n    command: [run]\n"

BAD: dict[str, tuple[type[Model], str, str]] = {
    # seeds
    "data of no files": (
        Topology,
        T + "databases:\n  db: {name: x, seed: {data: ▲{are: synthetic, by: ana, reason: made up}}}\n",
        "`data` speaks of `sql` and `csv`, and there are none",
    ),
    "data that nobody speaks for": (
        Topology,
        T + 'databases:\n  db: {name: x, seed: {sql: [there], data: {are: synthetic, by: ▲"", reason: made up}}}\n',
        "expected text that matches",
    ),
    # the writing
    "tab": (Topology, T + "databases:\n▲\tdb: {}\n", "a tab in the indentation"),
    "tab after a colon": (Topology, T + "description:▲\tx\n", "'\\t'"),
    "duplicate key": (Topology, T + "databases: {}\n▲databases: {}\n", "`databases` was given before, at bad.yaml:4:1"),
    "duplicate key deep down": (Topology, T + "databases:\n  db:\n    name: x\n    port: 1\n    ▲name: y\n", "bad.yaml:6:5"),
    "python tag": (Topology, T + "description: ▲!!python/object/apply:os.system ['true']\n", "!!python/object/apply:os.system"),
    "plain tag": (Topology, T + "description: ▲!!str 1\n", "tag !!str is not allowed"),
    "second document": (Topology, T + "▲---\nname: x\n", "a second document"),
    "syntax": (Topology, T + "databases: {a: 1\n▲", "not valid YAML"),
    "bad indentation": (Topology, T + "databases:\n  a: {}\n ▲b: {}\n", "not valid YAML"),
    "control character": (Topology, T + "description: a▲\x07b\n", "U+0007"),
    "escape beyond Unicode": (Topology, T + 'description: "\\U▲FFFFFFFF"\n', "out of range"),
    "half a surrogate pair": (Topology, T + 'description: ▲"\\ud800"\n', "cannot be stored"),
    "nul": (Topology, T + 'description: ▲"a\\0b"\n', "cannot be stored"),
    "unknown alias": (Topology, T + "description: ▲*a\n", "refers to no anchor"),
    "alias inside itself": (Topology, T + "databases: &a\n  db: ▲*a\n", "inside what it refers to"),
    "merge key": (Topology, T + "databases:\n  ▲<<: {}\n", "merge keys"),
    "number as a key": (Topology, T + "databases:\n  ▲1: {name: x}\n", "expected text as the key, found 1"),
    "list as a key": (Topology, T + "databases:\n  ▲[a]: {name: x}\n", "found a list or mapping"),
    "nan": (Scenario, C + "gate:\n  pass_rate: ▲.nan\n", ".nan is not a finite number"),
    "infinity": (Scenario, C + "limits:\n  wall: ▲-.inf\n", "not a finite number"),
    "number too large for a float": (Scenario, C + "limits:\n  wall: ▲1e999\n", "not a finite number"),
    "whole number too large": (Scenario, C + "run:\n  seed: ▲99999999999999999999\n", "beyond 64 bits"),
    # approvals
    "nobody to ask": (Scenario, C + "approvals:\n  rules:\n    - ▲answer: person\n", "nobody is listed who could answer"),
    "a person after the end": (
        Scenario,
        C + "limits: {wall: 30s}\napprovals:\n  people: {a: there}\n  rules: [▲{answer: person}]\n",
        "a person may take 60 s, and an attempt is over after 30 s (limits.wall)",
    ),
    "a person's long time": (
        Scenario,
        C + "approvals:\n  people: {a: there}\n  rules: [{answer: person, timeout: ▲2m}]\n",
        "a person may take 120 s, and an attempt is over after 120 s",
    ),
    "a rule that waits": (
        Scenario,
        C + "approvals:\n  wait: real\n  rules: [{answer: approve, delay: ▲{median: 4m, p90: 9m}}]\n",
        "an answer takes 240 s, and an attempt is over after 120 s",
    ),
    "a rule with a timeout": (
        Scenario,
        C + "approvals:\n  rules: [{answer: deny, timeout: ▲5s}]\n",
        "`timeout` is how long a person has",
    ),
    "behind a rule for all": (
        Scenario,
        C + "approvals:\n  rules:\n    - {answer: deny}\n    - ▲{of: POST a /b, answer: approve}\n",
        "no proposal gets here: the rule at line 11 answers all",
    ),
    "the body of a tool's call": (
        Scenario,
        C + "approvals:\n  rules: [{of: CALL desk.refund, answer: approve, when: {▲body.amount: 5}}]\n",
        "a tool's call has no body: this can never be told",
    ),
    "the body of a row": (
        Scenario,
        C + "approvals:\n  rules: [{of: UPDATE shop-db.orders.status, answer: approve, when: {▲body.amount: 5}}]\n",
        "a write to a row has no body: this can never be told",
    ),
    "the values of a request": (
        Scenario,
        C + "approvals:\n  rules: [{of: DELETE api /orders/7, answer: approve, when: {▲values.amount: 5}}]\n",
        "a request has no values: this can never be told",
    ),
    # servers of tools
    "mcp settings of no server": (Topology, SERVICE + "    mcp: ▲{calls: 1}\n", "no MCP server"),
    "a stub of tools": (
        Topology,
        T + "services:\n  api:\n    mode: stubbed\n    protocol: ▲mcp\n    routes: [{path: /mcp}]\n",
        "a stub does not speak MCP",
    ),
    "a tool with more calls than its server": (
        Topology,
        SERVICE + "    protocol: mcp\n    mcp: {limits: {x: {calls: ▲1001}}}\n",
        "more calls than its server's 1000",
    ),
    "a tool with more time than its server": (
        Topology,
        SERVICE + "    protocol: mcp\n    mcp: {seconds: 5s, limits: {x: {calls: 1, seconds: ▲10s}}}\n",
        "longer than its server's 5 s",
    ),
    "tools at two ports": (Topology, SERVICE + "    protocol: mcp\n    ports: ▲[1, 2]\n", "has 2 ports"),
    "standard input of an image": (
        Topology,
        T + "services:\n  api:\n    image: ▲a\n    protocol: mcp\n    mcp: {transport: stdio}\n",
        "speaks MCP on its standard input, and runs from an image",
    ),
    "tool by another name": (Boundary, B + "tools:\n  api:\n    ▲a b: read\n", "a tool's name"),
    # header
    "only a list": (Topology, "▲- a\n", "expected a mapping with apiVersion and kind: Topology, found a list"),
    "other kind": (
        Topology,
        "apiVersion: podctl/v1\nkind: ▲Agent\nnmae: x\n",
        'expected kind: Topology, found the text "Agent"',
    ),
    "kind misspelt": (Topology, "apiVersion: podctl/v1\nkind: ▲topolgy\n", "expected kind: Topology"),
    "kind a list": (Topology, "apiVersion: podctl/v1\nkind: ▲[Topology]\n", "found a list"),
    "other version": (Topology, "apiVersion: ▲podctl/v2\nkind: Topology\nname: shop\n", "expected `podctl/v1`"),
    "no name": (Topology, "▲apiVersion: podctl/v1\nkind: Topology\n", "`name` is missing here"),
    # the shape
    "unknown key": (Topology, T + "▲databses: {}\n", "did you mean `databases`?"),
    "unknown key deep down": (
        Topology,
        T + "databases:\n  db:\n    name: x\n    seed:\n      ▲sqll: []\n",
        "did you mean `sql`?",
    ),
    "unknown key like no other": (
        Topology,
        T + "databases:\n  db:\n    name: x\n    ▲zzz: 1\n",
        "known here: mode, engine, name",
    ),
    "unknown key in a check": (
        Scenario,
        S + "checks:\n- kind: sql\n  name: a\n  database: db\n  ▲qurey: x\n  query: y\n",
        "did you mean `query`?",
    ),
    "enum": (Topology, T + "databases:\n  db:\n    name: x\n    mode: ▲mirored\n", "did you mean `mirrored`?"),
    "check kind": (Scenario, S + "checks:\n- kind: state\n- name: x\n  kind: ▲comand\n", "did you mean `command`?"),
    "check without kind": (Scenario, S + "checks:\n- ▲name: x\n", "`kind` is missing"),
    "check's field missing": (Scenario, S + "checks:\n- ▲kind: sql\n  name: a\n", "`database`, `query` are missing here"),
    "field of a check named as its kind": (
        Scenario,
        S + "checks:\n- kind: command\n  name: a\n  command: [x]\n  directory: .\n  timeout: ▲soon\n",
        "a duration such as",
    ),
    "list item of a check": (
        Scenario,
        S + "checks:\n- kind: command\n  name: a\n  command: [x, ▲1]\n  directory: .\n",
        "expected text",
    ),
    "no checks": (Scenario, S + "checks: ▲[]\n", "a list of at least 1"),
    "missing deep down": (Topology, T + "databases:\n  ▲db:\n    port: 5432\n", "`name` is missing here"),
    "bad name as a key": (Topology, T + "databases:\n  ▲Db_1: {name: x}\n", "expected a name (lower-case letters"),
    "bad database name": (Topology, T + "databases:\n  db: {name: ▲My-Db}\n", "a database's name"),
    "on is no boolean": (Boundary, B + "databases:\n  db:\n    t: {delete: ▲on}\n", "did you mean `true`?"),
    "no is no boolean": (
        Boundary,
        B + "databases:\n  db:\n    t: {read: ▲no}\n",
        'expected true or false or a list, found the text "no"',
    ),
    "item of a union's list": (
        Boundary,
        B + "databases:\n  db:\n    t: {update: [a, ▲3]}\n",
        "expected text, found the number 3",
    ),
    "octal": (Topology, T + "databases:\n  db: {name: x, port: ▲0o17}\n", 'expected a whole number, found the text "0o17"'),
    "leading zero": (Topology, T + "databases:\n  db: {name: x, port: ▲017}\n", "expected a whole number"),
    "sexagesimal": (Scenario, C + "limits:\n  wall: ▲12:30\n", "a duration such as"),
    "underscores": (Scenario, C + "limits:\n  tokens: ▲1_000\n", "expected a whole number"),
    "quoted number": (Topology, T + "databases:\n  db: {name: x, port: ▲'5432'}\n", "without quotes"),
    "port too high": (Topology, T + "databases:\n  db: {name: x, port: ▲70000}\n", "a number of at most 65535"),
    "size": (Scenario, C + "sample: {size: ▲0}\n", "a number of at least 1 or `all`"),
    "size word": (Scenario, C + "sample: {size: ▲al}\n", "expected a whole number or `all`"),
    "memory": (Scenario, C + "limits: {memory: ▲512MB}\n", "a size such as 64Ki, 512Mi or 1Gi"),
    "dollars": (Scenario, C + "limits: {dollars: ▲1 USD}\n", "an amount such as 5 or 0.25"),
    "dollars as true": (Scenario, C + "limits: {dollars: ▲true}\n", "an amount such as 5 or 0.25"),
    "negative dollars": (Scenario, C + "limits: {dollars: ▲-1}\n", "at least 0"),
    "unquoted version": (Agent, A.replace("'1'", "▲1.10"), "put quotes round it"),
    "section without contents": (Scenario, C + "run:▲\n", "expected a mapping (key: value), found nothing"),
    "text for a list": (Topology, T + "services:\n  api:\n    command: ▲run it\n", "expected a list"),
    "environment number": (Topology, SERVICE + "    environment: {PORT: ▲8080}\n", "put quotes round it"),
    # the meaning
    "left out without reason": (Topology, T + "databases:\n  ▲db: {name: x, mode: left-out}\n", "without a reason"),
    "mirrored without command": (Topology, T + "services:\n  ▲api: {ports: [80]}\n", "mirrored but has no command"),
    "stubbed without routes": (Topology, T + "services:\n  ▲api: {mode: stubbed}\n", "stubbed but has no routes"),
    "reserved name": (Topology, T + "databases:\n  ▲gateway: {name: x}\n", "means something else"),
    "name used twice": (
        Topology,
        T + "databases:\n  api: {name: x}\nservices:\n  ▲api: {command: [run]}\n",
        "is a database too, at line 5",
    ),
    "unknown dependency": (Topology, SERVICE + "    depends_on: [▲apy]\n", "did you mean `api`?"),
    "dependency left out": (
        Topology,
        SERVICE + "    depends_on: [▲db]\ndatabases:\n  db: {name: x, mode: left-out, reason: big}\n",
        "`db` is left out",
    ),
    "cycle": (Topology, SERVICE + "    depends_on: [▲b]\n  b: {command: [run], depends_on: [api]}\n", "api -> b -> api"),
    "cycle of one": (Topology, SERVICE + "    depends_on: [▲api]\n", "api -> api"),
    "unknown placeholder": (Topology, SERVICE + "    environment:\n      URL: ▲${api.urll}\n", "did you mean `api.url`?"),
    "malformed placeholder": (Topology, T + "services:\n  api: {command: [run, ▲'${api url}']}\n", "is not a placeholder"),
    "unclosed placeholder": (Topology, T + "services:\n  api: {command: [▲'${api']}\n", "is not a placeholder"),
    "agent's placeholder": (Agent, A.replace("[run]", "[▲'${api.url}']"), "names nothing here"),
    "seed file": (
        Topology,
        T + "databases:\n  db: {name: x, seed: {sql: [there, ▲nowhere.sql]}}\n",
        "no such file: nowhere.sql",
    ),
    "seed table": (Topology, T + "databases:\n  db: {name: x, seed: {csv: {t: ▲.}}}\n", "expected a file, found a directory"),
    "directory": (Agent, A.replace("directory: .", "directory: ▲there"), "expected a directory, found a file"),
    "prompt": (Agent, A + "prompt: ▲prompt.md\n", "no such file: prompt.md"),
    "path too long": (Agent, A + f"prompt: ▲{'x' * 300}\n", "no such file"),
    "source's ending": (Tickets, K.replace("rows.csv", "▲there"), "expected a .csv, .json, .jsonl, .ndjson or .parquet file"),
    "source missing": (Tickets, K.replace("rows.csv", "▲none.csv"), "no such file: none.csv"),
    "scenario's reference": (Scenario, C.replace("agent: there", "agent: ▲nowhere.yaml"), "no such file: nowhere.yaml"),
    "two ways": (Scenario, S + "checks:\n- ▲{kind: output, name: a, path: b, equals: 1, matches: x}\n", "exactly one of"),
    "no way": (Scenario, S + "checks:\n- ▲{kind: output, name: a, path: b}\n", "found none"),
    "regular expression": (
        Scenario,
        S + "checks:\n- {kind: output, name: a, path: b, matches: ▲'(x'}\n",
        "not a regular expression",
    ),
    "same check name": (
        Scenario,
        S + "checks:\n- {kind: state}\n- {kind: sql, name: ▲state, database: db, query: x}\n",
        "the other is at line 9",
    ),
    "live without a url": (Scenario, C + "model: {mode: ▲live}\n", "needs openai_url or anthropic_url"),
    "record without recordings": (Scenario, C + "model: {mode: ▲record, openai_url: 'http://h/v1'}\n", "needs recordings"),
    "replay without recordings": (Scenario, C + "model: {mode: ▲replay}\n", "needs recordings"),
    "replay of nothing": (Scenario, C + "model: {mode: replay, recordings: ▲none}\n", "no such directory"),
    "scripted without script": (Scenario, C + "model: {mode: ▲scripted}\n", "needs script"),
    "url": (Scenario, C + "model: {mode: live, openai_url: ▲localhost/v1}\n", "http:// or https://"),
    "included and excluded": (Scenario, C + "sample: {include: [a], exclude: [b, ▲a]}\n", "included and excluded"),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("x")
    (tmp_path / "rows.csv").write_text("id\n1\n")
    return tmp_path / "bad.yaml"


def mistakes(path: Path, model: type[Model]) -> SpecMistakes:
    with pytest.raises(SpecMistakes) as caught:
        load_model(path, model)
    return caught.value


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_shown_at_its_place(name: str, place: Path) -> None:
    model, marked, fragment = BAD[name]
    before = marked[: marked.index("▲")].split("\n")
    place.write_bytes(marked.replace("▲", "").encode())
    error = mistakes(place, model)
    text = error.render()
    assert [(problem.at.line, problem.at.column) for problem in error.problems] == [(len(before), len(before[-1]) + 1)], text
    assert f"bad.yaml:{len(before)}:{len(before[-1]) + 1}: " in text
    assert fragment in text


def test_the_line_and_a_caret_are_shown(place: Path) -> None:
    place.write_text(T + "databases:\n  db: {name: x, mode: mirored}\n")
    assert mistakes(place, Topology).render().splitlines() == [
        'error: bad.yaml:5:23: expected `mirrored` or `left-out`, found the text "mirored" [spec-invalid]',
        "    5 |   db: {name: x, mode: mirored}",
        "      |                       ^",
        "    did you mean `mirrored`?",
        "  nothing was made",
    ]


def test_all_mistakes_are_shown_in_the_order_of_the_lines(place: Path) -> None:
    place.write_text(
        T
        + "databases:\n  gateway: {name: 1, nme: x}\n  db: {mode: left-out}\nservices:\n  api: {depends_on: [x], ports: [0]}\n  api: {}\n"
    )
    error = mistakes(place, Topology)
    assert [(p.at.line, p.message.split(";")[0][:24]) for p in error.problems] == [
        (5, "`gateway` means somethin"),
        (5, "expected text, found the"),
        (5, "unknown key `nme`"),
        (6, "`name` is missing here"),
        (8, "`api` is mirrored but ha"),
        (8, "no database or service `"),
        (8, "expected a number of at "),
        (9, "the key `api` was given "),
    ]
    assert "8 mistakes in bad.yaml" in error.render()


def test_no_more_than_twenty_are_shown(place: Path) -> None:
    place.write_text(T + "".join(f"x{number}: 1\n" for number in range(25)))
    text = mistakes(place, Topology).render()
    assert text.count("unknown key") == 20
    assert "and 5 more" in text


def test_text_cannot_reach_the_terminal_as_escapes(place: Path) -> None:
    place.write_text(T + "\u202e: 1\nx: \u009b31m\n" + "y: " + "z" * 5000 + "\n")
    text = mistakes(place, Topology).render()
    assert "\u202e" not in text
    assert "\u009b" not in text
    assert max(map(len, text.splitlines())) < 300


@pytest.mark.parametrize("data", [b"", b"\n\n# only a comment\n", b"---\n...\n", b"null\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(data: bytes, place: Path) -> None:
    place.write_bytes(data)
    assert "the file is empty" in mistakes(place, Topology).render()


def test_other_encodings_are_refused_at_the_first_bad_byte(place: Path) -> None:
    place.write_bytes(T.encode() + "description: caf\u00e9\n".encode("latin-1"))
    error = mistakes(place, Topology)
    assert (error.problems[0].at.line, error.problems[0].at.column) == (4, 17)
    assert "0xe9" in error.render()


def test_a_large_file_is_refused(place: Path) -> None:
    place.write_text("#" * (1 << 20) + "\n")
    with pytest.raises(SpecError, match="larger than 1 MiB"):
        load_model(place, Topology)


@pytest.mark.parametrize("bad", ["nowhere.yaml", "."])
def test_what_is_no_file_is_refused(bad: str, place: Path) -> None:
    with pytest.raises(SpecError, match=r"no such file|not a file"):
        load_model(place.parent / bad, Topology)


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        (bomb(9), "more than"),
        ("a: &a [" + "x, " * 3000 + "]\nb: [" + "*a, " * 50 + "]\n", "50000 values"),
        (f"a: &a {'x' * 500_000}\nb: [{'*a, ' * 99}]\n", "50000 values"),
        ("a: &a x\nb: [" + "*a, " * 101 + "]\n", "100 aliases"),
        ("[" * 100_000, "nested more than 64 deep"),
        ("- " * 50_000 + "x", "nested more than 64 deep"),
        ("a0: &a0 x\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 90)), "nested more than 64 deep"),
    ],
)
def test_bombs_are_refused_quickly(text: str, fragment: str, place: Path) -> None:
    place.write_text(text)
    assert fragment in mistakes(place, Topology).render()


def test_a_few_aliases_are_fine(place: Path) -> None:
    place.write_text(T + "databases:\n  a: &db {name: x}\n  b: *db\n")
    assert load_model(place, Topology).databases["b"].name == "x"


def test_values_are_read_as_yaml_1_2_does(place: Path) -> None:
    place.write_text(
        SERVICE
        + "    environment: {A: on, B: 12:30, C: 0o17, D: 017, E: 2026-01-02, F: 1_000, G: 'true', H: '', I: nan, J: '<<'}\n"
    )
    assert load_model(place, Topology).services["api"].environment == {
        "A": "on", "B": "12:30", "C": "0o17", "D": "017", "E": "2026-01-02", "F": "1_000", "G": "true", "H": "", "I": "nan", "J": "<<",
    }  # fmt: skip


def test_windows_line_ends_and_a_byte_order_mark_do_not_move_positions(place: Path) -> None:
    place.write_bytes(b"\xef\xbb\xbf" + (T + "x: 1\n").replace("\n", "\r\n").encode())
    assert [(p.at.line, p.at.column) for p in mistakes(place, Topology).problems] == [(4, 1)]


class Paired(Model):
    """A kind of file whose model judges it as a whole."""

    apiVersion: Literal["podctl/v1"]
    kind: Literal["Paired"]
    left: int
    right: int

    @model_validator(mode="after")
    def _fit(self) -> Paired:
        if self.left > self.right:
            raise ValueError("left lies beyond right")
        return self


def test_what_a_model_says_of_a_whole_file_is_told_at_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "pair.yaml"
    path.write_text("apiVersion: podctl/v1\nkind: Paired\nleft: 2\nright: 1\n")
    with pytest.raises(SpecMistakes) as caught:
        load_model(path, Paired)
    assert [(problem.at.line, problem.message) for problem in caught.value.problems] == [(1, "left lies beyond right")]
    path.write_text("apiVersion: podctl/v1\nkind: Paired\nleft: 2\n")
    with pytest.raises(SpecMistakes, match="`right` is missing here"):
        load_model(path, Paired)
