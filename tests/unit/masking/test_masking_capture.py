"""From a live database to a signed seed: proposed, refused, confirmed, captured, loaded, checked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from capturing import Server, ask, project

from podctl.masking.canaries import Canary, forms
from podctl.masking.scan import Scanner

SCHEMA = """
CREATE TABLE customers (id serial PRIMARY KEY, email varchar(80) UNIQUE NOT NULL, full_name text NOT NULL, phone text,
    born_on date, created_at timestamptz DEFAULT now(), tier text DEFAULT 'basic', password_hash text, vip boolean DEFAULT false,
    profile jsonb, referrer int REFERENCES customers, salary numeric(10,2), last_ip inet, short_mail varchar(12));
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id int REFERENCES customers, number text UNIQUE, total numeric, iban text,
    comment text, document tsvector);
CREATE TABLE letters (id int PRIMARY KEY, recipient text, body text);
INSERT INTO customers SELECT n, 'zoe' || n || '@corp-raw.example', 'Zoeline Quartermaine' || chr(65 + n % 26), '+1 415 867 ' || lpad(n::text, 4, '0'),
    date '1970-01-01' + n, now(), CASE n % 3 WHEN 0 THEN 'gold' ELSE 'basic' END, '$2b$12$' || md5(n::text), n % 2 = 0,
    jsonb_build_object('contact', jsonb_build_object('mail', 'zoej' || n || '@corp-raw.example'), 'zoe' || n || '@corp-raw.example', 1),
    nullif(n - 1, 0), 5000 + n, '10.0.0.1', 'z' || n || '@b.co' FROM generate_series(1, 120) n;
INSERT INTO orders SELECT n, n, 'W' || lpad((n * 7919)::text, 7, '0'), 12.5, 'DE89370400440532013000',
    'for Zoeline Quartermaine' || chr(65 + n % 26) || ', zoe' || n || '@corp-raw.example, order W' || lpad((n * 7919)::text, 7, '0'), NULL
    FROM generate_series(1, 120) n;
INSERT INTO letters SELECT n, 'ZOE' || n || '@corp-raw.example', 'Dear Zoeline Quartermaine' || chr(65 + n % 26) || ', call +1 415 867 ' || lpad(n::text, 4, '0')
    FROM generate_series(1, 120) n;
ANALYZE;
"""


@pytest.fixture(scope="module")
def source(server: str) -> str:
    return Server(server).database(SCHEMA)


class Project:
    def __init__(self, root: Path, url: str) -> None:
        self.root, self.config = root / "project", root / "config"
        self.root.mkdir()
        project(self.root, url, whole=["*"], masking="masking.yaml")

    def podctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "XDG_CONFIG_HOME": str(self.config), "PODCTL_QUIET": "1"}
        return subprocess.run(
            [sys.executable, "-m", "podctl", "data", *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def confirm(self) -> None:
        """What a person does, one mark after the other."""
        file = self.root / "masking.yaml"
        text = re.sub(r'(, )?proposed: ("(\\.|[^"\\])*"|[\w.-]+)', "", file.read_text())
        file.write_text(re.sub(r"^ *\n", "", text, flags=re.MULTILINE))


@pytest.fixture
def trial(tmp_path: Path, source: str) -> Project:
    return Project(tmp_path, source)


def test_from_a_proposal_to_a_seed_that_can_be_checked(trial: Project, source: str, server: str) -> None:
    proposed = trial.podctl("classify", "capture.yaml", "-o", "masking.yaml")
    assert proposed.returncode == 0, proposed.stderr
    text = (trial.root / "masking.yaml").read_text()
    assert "corp-raw" not in text.lower() and "quartermaine" not in text.lower()

    assert trial.podctl("key", "new", "shop").returncode == 0
    refused = trial.podctl("capture", "capture.yaml", "-o", "seed", "--no-template")
    assert refused.returncode == 2 and "nobody has confirmed the rules of" in refused.stderr
    assert not (trial.root / "seed").exists()

    trial.confirm()
    captured = trial.podctl("capture", "capture.yaml", "-o", "seed")
    assert captured.returncode == 0, captured.stderr
    checked = trial.podctl("verify", "seed")
    assert checked.returncode == 0 and "none found" in checked.stdout, checked.stdout + checked.stderr
    statement = json.loads((trial.root / "seed" / "statement.json").read_text())["statement"]
    assert statement["rows"] == {"customers": 120, "letters": 120, "orders": 120}
    assert statement["search"]["values"] > 300

    looked = trial.podctl("scan", "capture.yaml", "seed")
    assert looked.returncode == 0 and "none of them in" in looked.stdout, looked.stderr
    (trial.root / "report.html").write_text("<p>ZOE17@corp-raw.example</p>")
    found = trial.podctl("scan", "capture.yaml", "seed", "report.html")
    assert (
        found.returncode == 100
        and "report.html, byte 3: a value of shop.customers.email" in found.stderr
        and "zoe17" not in found.stderr.lower()
    )
    (trial.root / "report.html").unlink()

    # No raw value anywhere, whatever the sample was: every address, name and number of the source.
    values = ask(source, "SELECT email, full_name, phone, profile #>> '{contact,mail}', password_hash FROM customers")
    everything = [
        Canary(n, "source", "any", forms(str(value))) for n, value in enumerate(value for row in values for value in row)
    ]
    assert Scanner(everything).scan([trial.root]).findings == ()

    # What joined joins, in text too.
    loaded = Server(server).loaded(trial.root / "seed")
    assert ask(loaded, "SELECT count(*) FROM letters JOIN customers ON recipient = email") == [(120,)]
    assert ask(
        loaded, "SELECT count(*) FROM orders o JOIN customers c ON c.id = o.customer_id AND position(c.email IN comment) > 0"
    ) == [(120,)]
    assert ask(
        loaded,
        "SELECT count(*) FROM orders o JOIN customers c ON c.id = o.customer_id AND position(c.full_name IN comment) > 0",
    ) == [(120,)]
    assert ask(loaded, "SELECT count(*) FROM orders WHERE position(number IN comment) > 0") == [(120,)]
    assert ask(
        loaded, "SELECT count(*) FROM letters l JOIN customers c ON c.id = l.id AND position(c.full_name IN body) > 0"
    ) == [(120,)]
    assert ask(loaded, "SELECT count(DISTINCT email), count(DISTINCT tier), count(referrer) FROM customers") == [(120, 2, 119)]

    # The same rows by the same key are the same seed; by another key another.
    first = (trial.root / "seed" / "digest").read_text()
    assert trial.podctl("capture", "capture.yaml", "-o", "seed", "--no-template", "--replace").returncode == 0
    assert (trial.root / "seed" / "digest").read_text() == first
    assert trial.podctl("key", "rotate", "shop").returncode == 0
    assert trial.podctl("capture", "capture.yaml", "-o", "seed", "--no-template", "--replace").returncode == 0
    assert (trial.root / "seed" / "digest").read_text() != first

    (trial.root / "seed" / "after.sql").write_text("select 1;")
    changed = trial.podctl("verify", "seed")
    assert changed.returncode == 100 and changed.stdout == "seed: after.sql: its content differs\n"


def test_a_policy_that_leaks_makes_no_seed(trial: Project) -> None:
    trial.podctl("classify", "capture.yaml", "-o", "masking.yaml")
    trial.podctl("key", "new", "shop")
    trial.confirm()
    file = trial.root / "masking.yaml"
    file.write_text(re.sub(r"recipient: \{mask: \w+\}", "recipient: keep", file.read_text()))
    leaked = trial.podctl("capture", "capture.yaml", "-o", "seed", "--no-template")
    assert leaked.returncode == 100 and "[masking-leak]" in leaked.stderr
    assert "a value of shop.customers.email (email)" in leaked.stderr and "corp-raw" not in leaked.stderr.lower()
    assert sorted(path.name for path in trial.root.iterdir()) == ["capture.yaml", "masking.yaml"]


@pytest.mark.campaign
def test_a_migration_stops_the_next_capture_and_is_proposed_alone(trial: Project, server: str) -> None:
    url = Server(server).database(SCHEMA)
    project(trial.root, url, whole=["*"], masking="masking.yaml")
    trial.podctl("classify", "capture.yaml", "-o", "masking.yaml")
    trial.podctl("key", "new", "shop")
    trial.confirm()
    ask(
        url,
        "ALTER TABLE letters ADD COLUMN sender citext_like DEFAULT 'x@corp-raw.example'".replace("citext_like", "varchar(60)"),
    )
    refused = trial.podctl("capture", "capture.yaml", "-o", "seed", "--no-template")
    assert refused.returncode == 2 and "no rule says how to mask shop.letters.sender (character varying(60))" in refused.stderr
    more = trial.podctl("classify", "capture.yaml", "--known", "masking.yaml")
    assert more.stdout.count("proposed") == 1 and "sender: {mask: email" in more.stdout
    Server(server).drop(url)


def test_without_a_key_or_with_one_in_the_project_nothing_is_read(trial: Project) -> None:
    trial.podctl("classify", "capture.yaml", "-o", "masking.yaml")
    missing = trial.podctl("capture", "capture.yaml", "-o", "seed", "--no-template")
    assert missing.returncode == 2 and "podctl data key new" in missing.stderr
    (trial.root / ".git").mkdir()
    inside = trial.podctl("key", "new", "shop", "--key", "shop.key")
    assert inside.returncode == 2 and "lies in a project" in inside.stderr and not (trial.root / "shop.key").exists()


@pytest.mark.campaign
def test_the_tickets_of_a_capture_are_masked_with_it_and_join(trial: Project, source: str, server: str) -> None:
    reference = {
        "changes": [
            {
                "database": "shop",
                "table": "customers",
                "op": "update",
                "key": {"id": 7},
                "values": {"email": "zoe8@corp-raw.example"},
            }
        ]
    }
    tickets = [
        {"id": n, "from": f"Zoe{n}@corp-raw.example", "queue": "billing", "body": f"I am Zoeline Quartermaine{chr(65 + n % 26)}, where is W{n * 7919:07d}?",
         "reference": reference if n == 7 else None} for n in range(1, 21)
    ]  # fmt: skip
    trial.podctl("classify", "capture.yaml", "-o", "masking.yaml")
    trial.podctl("key", "new", "shop")
    trial.confirm()
    rows = [{"path": "id", "table": "customers", "column": "id"}]
    project(trial.root, source, tickets, rows=rows, masking="masking.yaml", whole=["letters", "orders"])
    file = trial.root / "tickets.yaml"
    file.write_text(file.read_text().replace("fields: {", "fields: {text: body, "))
    refused = trial.podctl("capture", "capture.yaml", "-o", "seed", "--no-template")
    assert refused.returncode == 2 and "[capture-tickets-unmasked]" in refused.stderr and not (trial.root / "seed").exists()
    proposed = trial.podctl("classify", "capture.yaml", "--known", "masking.yaml").stdout
    for rule in ("from: {mask: email,", "body: {mask: text,", "id: {mask: keep,", "queue: {mask: text,"):
        assert rule in proposed, proposed
    file_of_capture = trial.root / "capture.yaml"
    with_reason = yaml.safe_load(file_of_capture.read_text())
    with_reason["tickets"]["unmasked"] = "they are invented"
    file_of_capture.write_text(yaml.safe_dump(with_reason))
    done = trial.podctl("capture", "capture.yaml", "-o", "seed", "--no-template")
    assert done.returncode == 0 and "TICKETS NOT MASKED: they are invented" in done.stdout, done.stderr
    assert not (trial.root / "seed" / "tickets.jsonl").exists()
    masking = trial.root / "masking.yaml"
    bare = masking.read_text()
    masking.write_text(bare + "tickets: {}\n")
    both = trial.podctl("capture", "capture.yaml", "-o", "seed", "--no-template", "--replace")
    assert both.returncode == 2 and "keep one of them" in both.stderr
    masking.write_text(bare)
    del with_reason["tickets"]["unmasked"]
    file_of_capture.write_text(yaml.safe_dump(with_reason))
    rules = "tickets:\n  fields: {from: email, queue: keep, body: text, id: keep}\n"
    masking.write_text(masking.read_text() + rules.replace("queue: keep, ", ""))
    refused = trial.podctl("capture", "capture.yaml", "-o", "seed", "--no-template", "--replace")
    assert refused.returncode == 2 and "fields of tickets: queue" in refused.stderr
    masking.write_text(masking.read_text().replace("from: email,", "from: email, queue: keep,"))
    done = trial.podctl("capture", "capture.yaml", "-o", "seed", "--no-template", "--replace")
    assert done.returncode == 0, done.stderr
    text = (trial.root / "seed" / "tickets.jsonl").read_text()
    assert "quartermaine" not in text.lower() and "corp-raw" not in text.lower()

    from podctl.spec.load import load_model
    from podctl.spec.models import Tickets
    from podctl.tickets.sources import load_tickets

    masked = load_tickets(load_model(trial.root / "seed" / "tickets.yaml", Tickets))
    loaded = Server(server).loaded(trial.root / "seed")
    assert len(masked) == 20
    for ticket in masked:
        (email, name, number), *_ = ask(
            loaded,
            f"SELECT email, full_name, number FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id = {ticket.id}",
        )
        assert ticket.fields["from"] == email and name in ticket.text and number in ticket.text
    reference_of_seven = next(ticket.reference for ticket in masked if ticket.id == "7")
    assert reference_of_seven is not None and reference_of_seven.changes is not None
    assert reference_of_seven.changes[0].values == {"email": ask(loaded, "SELECT email FROM customers WHERE id = 8")[0][0]}
