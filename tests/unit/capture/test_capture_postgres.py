"""Captures of schemas that subsetters break on, loaded again: adding the references is the proof that they hold."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from capturing import Server, ask, captured, dump_programs, planned, project, standby
from postgres_server import serving

from podctl.capture.capturing import Order, write_seeds
from podctl.capture.masked import Unmasked
from podctl.capture.planning import opened
from podctl.data.seed import SeedProblem

TYPES = """
CREATE EXTENSION citext; CREATE EXTENSION hstore;
CREATE TYPE mood AS ENUM ('calm', 'cross'); CREATE DOMAIN positive AS int NOT NULL CHECK (VALUE > 0);
CREATE TYPE place AS (street text, code text);
CREATE TABLE things (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mail citext UNIQUE, m mood, many text[], grid int[][], p positive,
    home place, doc jsonb, kv hstore, raw bytea, span tstzrange, seen timestamptz, price numeric(12, 4), gone text,
    upper text GENERATED ALWAYS AS (upper(mail::text)) STORED, twice numeric GENERATED ALWAYS AS (price * 2)
);
ALTER TABLE things DROP COLUMN gone;
INSERT INTO things (mail, m, many, grid, p, home, doc, kv, raw, span, seen, price) VALUES
    ('A@x.example', 'cross', ARRAY['a"b', E'tab\\tnew\\nline\\\\', NULL], '{{1,2},{3,4}}', 7, ROW('High "St"', NULL),
     '{"a": [1, null, "\\u00e9"]}', 'k=>"v,w"', '\\x00ff', '[2020-01-01 00:00+02,)', '2024-02-29 12:00:00.123456+05:30', 1.5),
    (NULL, NULL, '{}', NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE SEQUENCE invoices START 500; SELECT nextval('invoices'), nextval('invoices');
CREATE VIEW seen_things AS SELECT id, seen FROM things;
CREATE MATERIALIZED VIEW first AS SELECT count(*) AS n FROM things;
CREATE MATERIALIZED VIEW second AS SELECT n + 1 AS n FROM first;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CREATE TRIGGER t BEFORE INSERT ON things FOR EACH ROW EXECUTE FUNCTION refuse();
ALTER TABLE things ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON things USING (mail = current_user);
"""


def test_every_kind_of_column_comes_through_and_nothing_fires_on_the_way(server: Server, tmp_path: Path) -> None:
    url = server.database(TYPES)
    seed = captured(project(tmp_path, url, whole=["*"]), tmp_path / "seed")
    copy = server.loaded(tmp_path / "seed")
    everything = "SELECT t::text FROM things t ORDER BY id"
    assert ask(copy, everything) == ask(url, everything)
    assert ask(copy, "SELECT n FROM second") == [(3,)]
    assert ask(copy, "SELECT nextval('invoices')") == [(502,)]
    with pytest.raises(psycopg.errors.RaiseException):
        ask(copy, "INSERT INTO things (p) VALUES (1) RETURNING id")
    ask(copy, "ALTER TABLE things DISABLE TRIGGER t")
    assert ask(copy, "INSERT INTO things (p, price) VALUES (1, 4) RETURNING id, twice") == [(4, 8)]
    assert "virtual column public.things.twice" in seed.not_mirrored
    assert seed.extensions.keys() == {"citext", "hstore"}


CYCLES = """
CREATE TABLE a (id int PRIMARY KEY, b_id int NOT NULL);
CREATE TABLE b (id int PRIMARY KEY, a_id int NOT NULL REFERENCES a);
INSERT INTO a SELECT n, n % 10 FROM generate_series(0, 9) n; INSERT INTO b SELECT n, (n + 1) % 10 FROM generate_series(0, 9) n;
ALTER TABLE a ADD FOREIGN KEY (b_id) REFERENCES b;
CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree, best int REFERENCES tree);
INSERT INTO tree SELECT n, nullif(n - 1, 0), n FROM generate_series(1, 50) n;
"""


def test_a_cycle_of_references_that_are_never_empty_is_taken_round(server: Server, tmp_path: Path) -> None:
    url = server.database(CYCLES)
    path = project(tmp_path, url, [{"id": "1", "a": 3}], rows=[{"path": "a", "table": "a", "column": "id"}])
    captured(path, tmp_path / "seed")
    copy = server.loaded(tmp_path / "seed")
    assert ask(copy, "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)") == [(10, 10)]


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_references_that_may_be_empty_are_followed_to_the_depth_and_emptied_beyond(
    server: Server, tmp_path: Path, depth: int
) -> None:
    url = server.database(CYCLES)
    rows = [{"path": "t", "table": "tree", "column": "id"}]
    seed = captured(
        project(tmp_path, url, [{"id": "1", "t": [20, 30]}], rows=rows, parents={"depth": depth}), tmp_path / "seed"
    )
    copy = server.loaded(tmp_path / "seed")
    kept = {n for top in (20, 30) for n in range(top - depth, top + 1)}
    assert {row[0] for row in ask(copy, "SELECT id FROM tree")} == kept
    assert ask(copy, "SELECT count(*) FROM tree WHERE best IS NULL") == [(0,)]
    assert {row[0] for row in ask(copy, "SELECT id FROM tree WHERE up IS NULL")} == {20 - depth, 30 - depth}
    (tree,) = [table for table in seed.tables if table.name == "tree"]
    assert tree.nulled == {"tree.up": 2} and (tree.rows, tree.there) == (len(kept), None)


ODD = """
CREATE SCHEMA "We.ird";
CREATE TABLE "We.ird"."T a%b" ("ID {x}" int PRIMARY KEY, "q""x" text UNIQUE NOT NULL, "Z" text);
INSERT INTO "We.ird"."T a%b" SELECT n, 'k' || n, '%s' FROM generate_series(1, 5) n;
CREATE TABLE refs (id int, k text REFERENCES "We.ird"."T a%b" ("q""x"));
INSERT INTO refs SELECT n, 'k' || n FROM generate_series(1, 5) n;
CREATE TABLE tenants (t int, n int, PRIMARY KEY (t, n));
INSERT INTO tenants SELECT 1 + g / 10, g FROM generate_series(1, 30) g;
CREATE TABLE log (at date NOT NULL, t int, n int, note text, FOREIGN KEY (t, n) REFERENCES tenants) PARTITION BY RANGE (at);
CREATE TABLE log_old PARTITION OF log FOR VALUES FROM ('2000-01-01') TO ('2020-01-01');
CREATE TABLE log_new (note text, n int, t int, at date NOT NULL);
ALTER TABLE log ATTACH PARTITION log_new FOR VALUES FROM ('2020-01-01') TO ('2040-01-01');
INSERT INTO log SELECT date '2015-01-01' + 100 * g, 1 + g / 10, g, 'n' || g FROM generate_series(1, 30) g;
CREATE TABLE parts (id int, kind text, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a'); CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b');
INSERT INTO parts SELECT g, CASE g % 2 WHEN 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 10) g;
CREATE TABLE uses (id int PRIMARY KEY, part int NOT NULL, kind text NOT NULL, FOREIGN KEY (part, kind) REFERENCES parts);
INSERT INTO uses SELECT g, g, CASE g % 2 WHEN 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 10) g;
CREATE TABLE animals (id int PRIMARY KEY, name text); CREATE TABLE dogs (tail int, PRIMARY KEY (id)) INHERITS (animals);
INSERT INTO animals VALUES (1, 'ant'), (2, 'bee'); INSERT INTO dogs VALUES (1, 'rex', 5);
CREATE TABLE visits (animal int REFERENCES animals); INSERT INTO visits VALUES (1), (2);
CREATE TABLE notes (about text, about_id text, body text);
INSERT INTO notes VALUES ('animal', '2', 'stings'), ('dog', 'x', 'no number'), ('animal', '1', 'small'), ('animal', '99', 'gone');
"""


def test_odd_names_unique_keys_composite_keys_and_tables_without_a_key(server: Server, tmp_path: Path) -> None:
    url = server.database(ODD)
    path = project(tmp_path, url, [{"id": "1", "r": ["2", 4]}], rows=[{"path": "r", "table": "refs", "column": "id"}])
    captured(path, tmp_path / "seed")
    copy = server.loaded(tmp_path / "seed")
    assert ask(copy, 'SELECT "ID {x}", "q""x", "Z" FROM "We.ird"."T a%b" ORDER BY 1') == [(2, "k2", "%s"), (4, "k4", "%s")]


def test_partitions_are_taken_from_and_referred_to(server: Server, tmp_path: Path) -> None:
    url = server.database(ODD)
    rows = [{"path": "log", "table": "log", "column": "note"}, {"path": "uses", "table": "uses", "column": "id"}]
    path = project(tmp_path, url, [{"id": "1", "log": ["n3", "n25"], "uses": [4, 7]}], rows=rows)
    captured(path, tmp_path / "seed")
    copy = server.loaded(tmp_path / "seed")
    assert ask(copy, "SELECT note, t, n FROM log_old") == [("n3", 1, 3)]
    assert ask(copy, "SELECT note, t, n FROM log_new") == [("n25", 3, 25)]
    assert ask(copy, "SELECT t, n FROM tenants ORDER BY 1") == [(1, 3), (3, 25)]
    assert ask(copy, "SELECT tableoid::regclass::text, id FROM parts ORDER BY id") == [("parts_a", 4), ("parts_b", 7)]


def test_rows_of_a_parent_table_are_not_those_of_its_heirs(server: Server, tmp_path: Path) -> None:
    url = server.database(ODD)
    path = project(tmp_path, url, [{"id": "1", "v": 1}], rows=[{"path": "v", "table": "visits", "column": "animal"}])
    captured(path, tmp_path / "seed")
    copy = server.loaded(tmp_path / "seed")
    assert ask(copy, "SELECT id, name FROM animals") == [(1, "ant")]


def test_a_polymorphic_reference_is_followed_only_where_it_holds(server: Server, tmp_path: Path) -> None:
    url = server.database(ODD)
    edge = {"table": "notes", "columns": ["about_id"], "of": "animals", "to": ["id"], "when": {"about": "animal"}}
    rows = [{"path": "n", "table": "notes", "column": "body"}]
    path = project(tmp_path, url, [{"id": "1", "n": ["stings", "no number", "gone"]}], rows=rows, edges=[edge])
    captured(path, tmp_path / "seed")
    copy = server.loaded(tmp_path / "seed")
    assert ask(copy, "SELECT id FROM animals") == [(2,)]
    assert ask(copy, "SELECT count(*) FROM notes") == [(3,)]


def test_declared_children_come_under_their_cap_and_always_the_same(server: Server, tmp_path: Path) -> None:
    script = """CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p);
        INSERT INTO p SELECT g FROM generate_series(1, 3) g; INSERT INTO c SELECT g, 1 + g % 3 FROM generate_series(1, 90) g;"""
    taken = []
    for order in ("ASC", "DESC"):  # the rows lie elsewhere in the file, and are the same rows
        url = server.database(
            script + f"CREATE TABLE d AS SELECT * FROM c ORDER BY id {order}; TRUNCATE c; INSERT INTO c TABLE d;"
        )
        rows = [{"path": "p", "table": "p", "column": "id"}]
        path = project(tmp_path, url, [{"id": "1", "p": [1, 2]}], rows=rows, children=[{"table": "c", "of": "p", "cap": 4}])
        plan = planned(path)
        (flow,) = [flow for (_, how), flow in plan.subset.flows.items() if how == "children"]
        assert (flow.rows, flow.beyond) == (8, 52)
        digest = captured(path, tmp_path / order).digest
        copy = server.loaded(tmp_path / order)
        assert ask(copy, "SELECT p, count(*) FROM c GROUP BY 1 ORDER BY 1") == [(1, 4), (2, 4)]
        taken.append((ask(copy, "SELECT id FROM c ORDER BY 1"), digest))
    assert taken[0] == taken[1]


def test_rows_that_a_reference_resolution_changes_are_there(server: Server, tmp_path: Path) -> None:
    url = server.database(CYCLES)
    change = {"database": "shop", "table": "tree", "op": "update", "key": {"id": 7}, "values": {"up": None}}
    insert = {"database": "shop", "table": "tree", "op": "insert", "values": {"id": 900}}
    ticket = {"id": "1", "a": 1, "reference": {"changes": [change, insert]}}
    path = project(tmp_path, url, [ticket], rows=[{"path": "a", "table": "a", "column": "id"}], parents={"depth": 0})
    assert planned(path).subset.named == {"a": 1, "tree": 1}


def test_tables_left_out_take_the_references_to_them_along(server: Server, tmp_path: Path) -> None:
    url = server.database(CYCLES)
    seed = captured(project(tmp_path, url, whole=["a"], leave_out=["b"]), tmp_path / "seed")
    copy = server.loaded(tmp_path / "seed")
    assert ask(copy, "SELECT count(*), to_regclass('b') IS NULL FROM a") == [(10, True)]
    assert seed.not_mirrored["table b"] == "left out"
    assert any(what.startswith("FK CONSTRAINT") for what in seed.not_mirrored)


def test_what_belongs_to_a_server_is_not_mirrored_and_no_password_of_another_one(server: Server, tmp_path: Path) -> None:
    url = server.database(
        """CREATE EXTENSION postgres_fdw; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
        CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '10.9.8.7');
        CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'u', password 'hunter2-of-far');
        CREATE FOREIGN TABLE theirs (id int) SERVER far; CREATE PUBLICATION pub FOR TABLE t;
        CREATE FUNCTION ev() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
        SELECT lo_create(4711);
        CREATE EVENT TRIGGER ev ON ddl_command_start EXECUTE FUNCTION ev();"""
    )
    seed = captured(project(tmp_path, url, whole=["t"]), tmp_path / "seed")
    copy = server.loaded(tmp_path / "seed")
    assert ask(copy, "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM pg_event_trigger)") == [(1, 0)]
    files = b"".join(path.read_bytes() for path in (tmp_path / "seed").rglob("*") if path.is_file())
    assert b"hunter2" not in files and b"10.9.8.7" not in files
    assert {"large objects", "table theirs"} <= seed.not_mirrored.keys()
    assert len([what for what in seed.not_mirrored if what.startswith(("EVENT", "USER MAPPING", "SERVER", "FOREIGN"))]) == 4


def test_the_same_snapshot_has_the_same_digest_and_a_changed_file_is_named(server: Server, tmp_path: Path) -> None:
    url = server.database(TYPES + CYCLES)
    path = project(tmp_path, url, whole=["*"])
    first = captured(path, tmp_path / "seed")
    again = captured(path, tmp_path / "seed", replace=True)
    assert first.digest == again.digest
    ask(url, "UPDATE tree SET best = 1 WHERE id = 2")
    assert captured(path, tmp_path / "seed", replace=True).digest != first.digest
    (rows,) = [table.file for table in again.tables if table.name == "tree"]
    manifest = json.loads((tmp_path / "seed" / "seed.json").read_text())
    assert manifest["taken_at"] and manifest["engine"] == "postgresql"
    with (tmp_path / "seed" / str(rows)).open("ab") as stream:
        stream.write(b"51\t\\N\t\\N\n")
    with pytest.raises(Exception, match=r"000\d\.copy is not what was captured"):
        server.loaded(tmp_path / "seed")


@pytest.mark.campaign
def test_a_standby_is_a_source_like_any_other(server: Server, tmp_path: Path) -> None:
    with serving() as primary:
        database = urlsplit(Server(primary).database(CYCLES)).path[1:]
        with standby(Server(primary)) as other:
            assert ask(other.url, "SELECT pg_is_in_recovery()") == [(True,)]
            ticket, rows = {"id": "1", "t": 20}, [{"path": "t", "table": "tree", "column": "id"}]
            captured(project(tmp_path, other.of(database), [ticket], rows=rows, whole=["a"]), tmp_path / "seed")
    copy = server.loaded(tmp_path / "seed")
    assert ask(copy, "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b), (SELECT count(*) FROM tree)") == [(10, 10, 2)]


def test_two_databases_of_one_server_are_of_one_moment_while_somebody_writes(server: Server, tmp_path: Path) -> None:
    """One after the other is written to: whoever sees the second one's write sees the first one's."""
    script = "CREATE TABLE n (id int PRIMARY KEY, at int); INSERT INTO n VALUES (1, 0)"
    urls = [server.database(script), server.database(script)]
    paths = []
    for name, url in zip(("first", "second"), urls, strict=True):
        (tmp_path / name).mkdir()
        paths.append(project(tmp_path / name, url, name=name, whole=["n"]))
    over = threading.Event()

    def write() -> None:
        sessions = [psycopg.connect(url, autocommit=True) for url in urls]
        count = 0
        while not over.is_set():
            count += 1
            for session in sessions:
                session.execute("UPDATE n SET at = %s", (count,))
            time.sleep(0.0005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for repetition in range(8):
            with opened(paths, dump_programs()) as sources:
                assert sources[0].together == sources[1].together and sources[0].together["same_moment"]
                targets = [tmp_path / f"{repetition}" / source.spec.name for source in sources]
                orders = [Order(one, one.plan(), out, Unmasked("invented")) for one, out in zip(sources, targets, strict=True)]
                write_seeds(orders, replace=False)
            first, second = (int((target / "tables/0001.copy").read_text().split()[1]) for target in targets)
            assert first - second in (0, 1)
    finally:
        over.set()
        writer.join()


@pytest.mark.campaign
def test_of_several_seeds_none_is_made_when_one_cannot_be(server: Server, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    good = project(tmp_path, server.database("CREATE TABLE t (id int); INSERT INTO t VALUES (1)"), name="good", whole=["t"])
    bad = project(
        tmp_path / "b", server.database("CREATE TABLE t (j text); INSERT INTO t VALUES (repeat('x', 9000))"), name="bad", whole=["t"], value_bytes=5000
    )  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "podctl",
        "data",
        "capture",
        str(good),
        str(bad),
        "-o",
        str(tmp_path / "seeds"),
        "--no-template",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3 and "capture-value-size" in done.stderr
    assert list((tmp_path / "seeds").iterdir()) == []
    done = subprocess.run([*command[:5], str(good), str(good), *command[7:]], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "two captures have the same name" in done.stderr


OLDER = sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.mark.skipif(not OLDER, reason="no other PostgreSQL under /usr/lib/postgresql")
@pytest.mark.parametrize("programs", OLDER or [Path()], ids=lambda path: path.parent.name)
def test_an_older_server_is_a_source_like_any_other(server: Server, tmp_path: Path, programs: Path) -> None:
    with serving(programs=programs) as other:
        url = Server(other).database(ODD + CYCLES + "ALTER TABLE tree ALTER COLUMN id SET (n_distinct = 50);")
        ticket = {"id": "1", "log": ["n3", "n25"], "uses": [4, 7], "r": [2, 4]}
        rows = [
            {"path": path, "table": table, "column": column}
            for path, table, column in (("log", "log", "note"), ("uses", "uses", "id"), ("r", "refs", "id"))
        ]
        seed = captured(project(tmp_path, url, [ticket], rows=rows, whole=["b"]), tmp_path / "seed")
    assert seed.engine_version.split(".")[0] == programs.parent.name
    copy = server.loaded(tmp_path / "seed")
    assert ask(copy, "SELECT tableoid::regclass::text, id FROM parts ORDER BY id") == [("parts_a", 4), ("parts_b", 7)]
    assert ask(copy, "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)") == [(10, 10)]
    assert ask(copy, "SELECT attoptions FROM pg_attribute WHERE attrelid = 'tree'::regclass AND attname = 'id'") == [
        (["n_distinct=50"],)
    ]


@pytest.mark.campaign
@pytest.mark.skipif(not OLDER, reason="no other PostgreSQL under /usr/lib/postgresql")
@pytest.mark.parametrize("programs", OLDER or [Path()], ids=lambda path: path.parent.name)
def test_a_seed_loads_into_an_older_server_or_says_what_it_came_from(server: Server, tmp_path: Path, programs: Path) -> None:
    """A pod's image may have another PostgreSQL than the one that was captured."""
    (tmp_path / "b").mkdir()
    plain, newer = (server.database(f"CREATE TABLE t (a int PRIMARY KEY {more}); INSERT INTO t VALUES (1)")
                    for more in ("", ", CHECK (a > 5) NOT ENFORCED"))  # fmt: skip
    captured(project(tmp_path, plain, whole=["t"]), tmp_path / "seed")
    captured(project(tmp_path / "b", newer, whole=["t"]), tmp_path / "b" / "seed")
    with serving(programs=programs) as other:
        assert ask(Server(other).loaded(tmp_path / "seed"), "SELECT a FROM t") == [(1,)]
        with pytest.raises(SeedProblem) as caught:
            Server(other).loaded(tmp_path / "b" / "seed")
    assert "after.sql:" in caught.value.what
    assert re.fullmatch(
        rf"it was captured from PostgreSQL \d+, and this server is {programs.parent.name}: use an image .*", caught.value.hint
    )
