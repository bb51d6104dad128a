"""A scenario with everything it names: loading, overriding, checks across files."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from podctl.agents.identity import agent_digest
from podctl.errors import SpecError
from podctl.spec.load import load_bundle, load_model
from podctl.spec.models import Boundary, Seed
from podctl.spec.problems import SpecMistakes
from podctl.spec.resolved import boundary_digest, part_digests, resolved, seed_files, spec_digest
from podctl.spec.scaffold import scaffold
from podctl.spec.tickets import Tickets
from podctl.tickets.sample import draw
from podctl.tickets.sources import load_tickets


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scaffold(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def places(path: Path, **overrides: Path) -> list[tuple[str, int, int, str]]:
    with pytest.raises(SpecMistakes) as caught:
        load_bundle(path, overrides)
    return [(p.file, p.at.line, p.at.column, p.message) for p in caught.value.problems]


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ("environment: [DATABASE_URL]", "the agent gets DATABASE_URL already"),
        ("environment: [ORDERS_API_URL]", "the agent gets ORDERS_API_URL already"),
        ("environment: [PODCTL_TICKET]", "the agent gets PODCTL_TICKET already"),
        ("environment: [SHOP_MODE]", "the agent gets SHOP_MODE already"),
        ("environment: [LDAP_PASSWORD, OPENAI_ADMIN_KEY, BILLING_URL]", ""),
        ("files: [notes.txt]", "the agent gets ADMIN_API_TOKEN already"),
        ("environment: [X_KEY]\n  files: [notes.txt, result.json]", "result.json is one of the files"),
        (
            "environment: [X_KEY]\n  rows: {shop-db: {orders: {id: 9, item: x}}}",
            "the row of shop-db.orders has no {honeytoken}",
        ),
    ],
)
def test_no_honeytoken_stands_in_for_what_the_agent_needs(project: Path, tokens: str, said: str) -> None:
    with open(project / "scenario.yaml", "a") as scenario, open(project / "agent.yaml", "a") as agent:
        scenario.write(f"honeytokens:\n  {tokens}\n")
        agent.write("environment: {SHOP_MODE: quick, ADMIN_API_TOKEN: x}\n")
    if said:
        ((_, _, _, message),) = places(project / "scenario.yaml")
        assert message.startswith(said)
    else:
        load_bundle(project / "scenario.yaml")


@pytest.mark.parametrize(
    ("rule", "column", "said"),
    [
        ("{answer: deny}", 1, ""),
        ("{of: POST orders-api /refund, answer: deny}", 12, "did you mean `POST orders-api /refunds`?"),
        ("{of: GET orders-api /**, answer: deny}", 12, "is read in the boundary, so nobody is asked"),
        ("{of: UPDATE shop-db.orders.status, answer: deny}", 12, ""),
        ("{of: UPDATE shop-db.orders.total, answer: deny}", 12, "did you mean `UPDATE shop-db.orders`?"),
        ("{of: CALL *, answer: deny}", 12, "the boundary recommends `UPDATE shop-db.orders`, `POST orders-api /refunds`"),
    ],
)
def test_a_rule_of_approvals_answers_something_that_the_boundary_recommends(
    rule: str, column: int, said: str, project: Path
) -> None:
    with open("scenario.yaml", "a") as file:
        file.write(f"approvals:\n  rules:\n    - {rule}\n")
    line = len(Path("scenario.yaml").read_text().splitlines()) - 2
    [[*place, message]] = places(Path("scenario.yaml"))
    assert place == ["scenario.yaml", line + 1, 3] and "recommends nothing" in message

    head = "apiVersion: podctl/v1\nkind: Boundary\nname: b\n"
    databases = "databases: {shop-db: {orders: {read: true, recommend: {update: [status]}}}}\n"
    Path("boundary.yaml").write_text(head + databases + "services: {orders-api: {GET /**: read, POST /refunds: recommend}}\n")
    if not said:
        load_bundle(Path("scenario.yaml"))
        return
    with pytest.raises(SpecMistakes) as caught:
        load_bundle(Path("scenario.yaml"))
    [problem] = caught.value.problems
    assert (problem.at.line, problem.at.column) == (line + 2, column)
    assert said in f"{problem.message} | {problem.hint}"


def test_the_project_made_for_a_start_loads(project: Path) -> None:
    bundle = load_bundle(Path("scenario.yaml"))
    assert bundle.path == project / "scenario.yaml"
    assert bundle.scenario.agent == project / "agent.yaml"
    assert bundle.agent.directory == project / "agent"
    assert bundle.topology.databases["shop-db"].seed.csv["orders"] == project / "seed" / "orders.csv"
    tickets = load_tickets(bundle.tickets)
    assert len(tickets) == 12
    assert all(set(ticket.fields) == {"id", "customer", "text"} and ticket.reference for ticket in tickets)
    assert draw(tickets, bundle.scenario.sample).strata == {"cancel": (6, 6), "status": (6, 6)}


def test_names_that_another_file_lacks_are_shown_where_they_stand(project: Path) -> None:
    edit(Path("boundary.yaml"), "  shop-db:", "  shop-bd:")
    edit(Path("agent.yaml"), "[orders-api]", "[orders-api, mail]")
    edit(Path("scenario.yaml"), "  - kind: state", "  - {kind: sql, name: a, database: orders-api, query: x}")
    assert places(Path("scenario.yaml")) == [
        ("scenario.yaml", 13, 36, "no database `orders-api`"),
        ("boundary.yaml", 5, 3, "no database `shop-bd`"),
        ("agent.yaml", 8, 21, "no service `mail`"),
    ]


def test_tools_are_named_by_their_server_and_services_by_their_routes(project: Path) -> None:
    text = Path("boundary.yaml").read_text()
    Path("boundary.yaml").write_text(text + "tools:\n  orders-api: read\n")
    agent = Path("agent.yaml").read_text()
    Path("agent.yaml").write_text(agent + "routing: {orders-api.look: {tool: find}}\n")
    assert [message for *_, message in places(Path("scenario.yaml"))] == ["no MCP server `orders-api`"] * 2
    edit(Path("topology.yaml"), "    directory: services\n", "    directory: services\n    protocol: mcp\n")
    found = places(Path("scenario.yaml"))
    assert [message for *_, message in found] == ["`orders-api` is an MCP server: what is decided is its tools"]


def test_what_is_left_out_of_the_pod_cannot_be_used(project: Path) -> None:
    edit(Path("topology.yaml"), "    name: shop\n", "    name: shop\n    mode: left-out\n    reason: too big\n")
    found = places(Path("scenario.yaml"))
    assert [(file, line) for file, line, _, _ in found] == [("topology.yaml", 21), ("topology.yaml", 24), ("boundary.yaml", 5)]
    assert all("left out" in message for *_, message in found)


def test_mistakes_of_all_files_are_shown_at_once(project: Path) -> None:
    edit(Path("scenario.yaml"), "wall: 30s", "wal: 30s")
    edit(Path("topology.yaml"), "seed/schema.sql", "seed/schem.sql")
    edit(Path("tickets.yaml"), "hide:", "hid:")
    edit(Path("agent.yaml"), 'version: "1"', "version: 1")
    edit(Path("boundary.yaml"), "orders: {read: true", "orders: {read: yes")
    assert [(file, line) for file, line, *_ in places(Path("scenario.yaml"))] == [
        ("scenario.yaml", 11),
        ("topology.yaml", 9),
        ("tickets.yaml", 6),
        ("agent.yaml", 4),
        ("boundary.yaml", 7),
    ]


def test_a_file_of_another_kind_is_named(project: Path) -> None:
    edit(Path("scenario.yaml"), "tickets: tickets.yaml", "tickets: agent.yaml")
    assert places(Path("scenario.yaml")) == [("agent.yaml", 2, 7, 'expected kind: Tickets, found the text "Agent"')]


def test_another_file_can_stand_in(project: Path) -> None:
    Path("other").mkdir()
    shutil.copytree("agent", "other/agent")
    shutil.copy("agent.yaml", "other/agent.yaml")
    edit(Path("other/agent.yaml"), 'version: "1"', 'version: "2"')
    Path("agent.yaml").unlink()
    bundle = load_bundle(Path("scenario.yaml"), {"agent": Path("other/agent.yaml")})
    assert (bundle.agent.version, bundle.agent.directory) == ("2", project / "other" / "agent")
    assert bundle.scenario.agent == project / "other" / "agent.yaml"


def test_a_stand_in_must_exist_and_be_known(project: Path) -> None:
    with pytest.raises(SpecError, match=r"no such file: nowhere\.yaml"):
        load_bundle(Path("scenario.yaml"), {"agent": Path("nowhere.yaml")})
    with pytest.raises(SpecError, match="nothing to replace by the name agnet"):
        load_bundle(Path("scenario.yaml"), {"agnet": Path("agent.yaml")})


def test_a_scenario_that_is_no_scenario(project: Path) -> None:
    assert places(Path("agent.yaml")) == [("agent.yaml", 2, 7, 'expected kind: Scenario, found the text "Agent"')]


def test_the_resolved_spec_is_plain_json_and_the_same_wherever_it_lies(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "deep" / "down" / "copy"
    shutil.copytree(project, elsewhere)
    here, there = load_bundle(project / "scenario.yaml"), load_bundle(elsewhere / "scenario.yaml")
    value = resolved(here)
    assert json.loads(json.dumps(value)) == value == resolved(there)
    assert spec_digest(here) == spec_digest(there)
    assert agent_digest(here.agent) == agent_digest(there.agent)
    assert value["scenario"]["limits"]["dollars"] == "1"
    assert value["scenario"]["limits"]["wall"] == 30.0
    assert value["scenario"]["topology"] == "topology.yaml"
    assert value["topology"]["databases"]["shop-db"]["port"] == 5432
    assert str(tmp_path) not in json.dumps(value)


def test_paths_elsewhere_stay_absolute(project: Path) -> None:
    edit(Path("topology.yaml"), "    directory: services\n", "    directory: services\n    read_only: [/usr/lib]\n")
    value = resolved(load_bundle(Path("scenario.yaml")))
    assert value["topology"]["services"]["orders-api"]["read_only"] == ["/usr/lib"]


def test_fields_younger_than_stored_digests_are_in_no_resolved_spec_that_does_not_use_them(project: Path) -> None:
    plain = resolved(load_bundle(Path("scenario.yaml")))
    assert set(plain["scenario"]["sample"]) == {"size", "design", "seed", "include", "exclude"}
    assert not Tickets.YOUNGER & set(plain["tickets"])
    assert not Seed.YOUNGER & set(plain["topology"]["databases"]["shop-db"]["seed"])
    changed = load_bundle(Path("scenario.yaml"))
    sample = changed.scenario.sample.model_copy(update={"minimum": 2})
    used = dataclasses.replace(changed, scenario=changed.scenario.model_copy(update={"sample": sample}))
    assert resolved(used)["scenario"]["sample"]["minimum"] == 2
    assert spec_digest(used) != spec_digest(changed)


def test_a_boundary_has_one_digest_wherever_it_lies_and_its_cedar_file_counts(project: Path, tmp_path: Path) -> None:
    Path("extra.cedar").write_text("forbid(principal, action, resource);")
    Path("boundary.yaml").write_text(Path("boundary.yaml").read_text() + "cedar: extra.cedar\n")
    here = load_bundle(Path("scenario.yaml"))
    assert part_digests(here)["boundary"] == boundary_digest(here.boundary)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("boundary.yaml", "extra.cedar"):
        shutil.copy(name, elsewhere / name)
    there = load_model(elsewhere / "boundary.yaml", Boundary)
    assert boundary_digest(there) == boundary_digest(here.boundary)
    (elsewhere / "extra.cedar").write_text("")
    assert boundary_digest(there) != boundary_digest(here.boundary)
    before = part_digests(here)
    edit(Path("seed/orders.csv"), "teapot", "teacup")
    after = part_digests(here)
    assert {name for name in before if before[name] != after[name]} == {"topology"}


def test_the_digest_follows_the_spec_and_the_seeds(project: Path) -> None:
    digests = [spec_digest(load_bundle(Path("scenario.yaml")))]
    edit(Path("seed/orders.csv"), "teapot", "teacup")
    digests.append(spec_digest(load_bundle(Path("scenario.yaml"))))
    edit(Path("scenario.yaml"), "wall: 30s", "wall: 31s")
    digests.append(spec_digest(load_bundle(Path("scenario.yaml"))))
    assert len(set(digests)) == 3
    edit(Path("scenario.yaml"), "wall: 31s", "wall: 31000ms")
    assert spec_digest(load_bundle(Path("scenario.yaml"))) == digests[2]


def test_a_seed_that_is_gone_is_an_error(project: Path) -> None:
    bundle = load_bundle(Path("scenario.yaml"))
    assert [path.name for path in seed_files(bundle)] == ["schema.sql", "orders.csv"]
    Path("seed/orders.csv").unlink()
    with pytest.raises(SpecError, match=r"cannot read the seed seed/orders\.csv"):
        spec_digest(bundle)


def test_scaffold_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "tickets.yaml").write_text("mine")
    with pytest.raises(SpecError, match=r"already there: .*tickets\.yaml"):
        scaffold(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tickets.yaml"]
    (tmp_path / "tickets.yaml").unlink()
    (tmp_path / "agent.yaml").symlink_to("nowhere")
    with pytest.raises(SpecError, match="already there"):
        scaffold(tmp_path)
    (tmp_path / "agent.yaml").unlink()
    (tmp_path / "seed").write_text("a file where a directory must be")
    with pytest.raises(SpecError, match="already there"):
        scaffold(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["seed"]
    (tmp_path / "seed").unlink()
    assert {str(path.relative_to(tmp_path)) for path in scaffold(tmp_path)} >= {"agent/agent.py", "services/orders_api.py"}


def test_the_service_answers_before_it_needs_its_database(project: Path) -> None:
    port = free_port()
    environment = {"HOST": "127.0.0.1", "PORT": str(port), "DATABASE_URL": "postgresql://localhost:1/none?connect_timeout=1"}
    process = subprocess.Popen(
        [sys.executable, "-B", "orders_api.py"], cwd="services", env=environment, stderr=subprocess.DEVNULL
    )
    try:
        assert wait_for(f"http://127.0.0.1:{port}/healthz") == b'{"ok": true}'
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/orders/1;drop")
    finally:
        process.terminate()
        process.wait(5)


def test_the_agent_tells_what_the_service_says(project: Path) -> None:
    class Orders(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"status": "shipped"}')

        def log_message(self, format: str, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Orders)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for text in ("Please cancel order 3", "Where is order 3?"):
            Path("ticket.json").write_text(json.dumps({"apiVersion": "podctl/v1", "id": "x", "text": text, "fields": {}}))
            environment = {
                "PODCTL_TICKET": "ticket.json",
                "PODCTL_RESULT": "result.json",
                "ORDERS_API_URL": f"http://127.0.0.1:{server.server_port}",
                "DATABASE_URL": "postgresql://localhost:1/none",
            }
            subprocess.run([sys.executable, "-B", "agent/agent.py"], env=environment, check=True, timeout=20)
            result = json.loads(Path("result.json").read_text())
            assert (result["status"], result["output"]) == ("done", {"answer": "shipped"})
    finally:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return server.server_port


def wait_for(url: str) -> bytes:
    end = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                return bytes(response.read())
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def test_an_unreadable_file_is_an_error_of_the_user(project: Path) -> None:
    os.truncate("agent.yaml", 0)
    assert places(Path("scenario.yaml")) == [("agent.yaml", 1, 1, "the file is empty")]
    Path("agent.yaml").write_text("#" * (1 << 20) + "\n")
    assert places(Path("scenario.yaml")) == [("scenario.yaml", 7, 8, "agent.yaml is larger than 1 MiB")]
