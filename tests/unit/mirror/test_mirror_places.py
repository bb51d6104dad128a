"""Addresses in a source's values: databases become podctl's own, others' services become stubs or are left out."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from importing import Result, compose

from podctl.mirror import engines, outside

DB = "db: {image: 'postgres:16', environment: {POSTGRES_USER: shop, POSTGRES_PASSWORD: pw12pw12, POSTGRES_DB: orders}}"


def web(root: Path, environment: dict[str, str], others: str = DB) -> Result:
    return compose(root, yaml.safe_dump({"web": {"image": "w", "ports": [80], "environment": environment}}) + others)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DATABASE_URL", "postgres://shop:pw12pw12@db:5432/orders", "${db.url}"),
        ("DATABASE_URL", "postgresql+asyncpg://shop:pw12pw12@db/orders", "postgresql+asyncpg://${db.user}:${db.password}@${db.host}:${db.port}/${db.name}"),
        ("U", "postgres://shop:pw12pw12@db/orders?sslmode=require", "postgres://${db.user}:${db.password}@${db.host}:${db.port}/${db.name}?sslmode=disable"),
        ("SPRING_DATASOURCE_URL", "jdbc:postgresql://db:5432/orders", "jdbc:postgresql://${db.host}:${db.port}/${db.name}"),
        ("U", "jdbc:postgresql://db/orders?user=shop&password=pw12pw12", "jdbc:postgresql://${db.host}:${db.port}/${db.name}?user=${db.user}&password=${db.password}"),
        ("C", "Host=db;Port=5432;Username=shop;Password=pw12pw12;Database=orders", "Host=${db.host};Port=${db.port};Username=${db.user};Password=${db.password};Database=${db.name}"),
        ("DSN", "host=db user=shop password=pw12pw12 dbname=orders sslmode=verify-full", "host=${db.host} user=${db.user} password=${db.password} dbname=${db.name} sslmode=disable"),
        ("ADDRESS", "db:5432", "${db.host}:${db.port}"),
        ("PGHOST", "db", "${db.host}"),
        ("PGUSER", "shop", "${db.user}"),
        ("DB_PASSWORD", "pw12pw12", "${db.password}"),
        ("DB_PASSWORD", "somebody-else5", "${db.password}"),
        ("DB_NAME", "orders", "${db.name}"),
        ("DB_PORT", "5432", "${db.port}"),
        ("NOTHING_OF_IT", "orders", "orders"),
        ("URL", "http://web:80/db", "http://web:80/db"),
    ],
)  # fmt: skip
def test_a_databases_address_in_all_its_forms(name: str, value: str, expected: str, tmp_path: Path) -> None:
    found = web(tmp_path, {name: value})
    assert found.plain["databases"] == {"db": {"name": "orders"}}
    assert found.service("web")["environment"][name] == expected
    assert "pw12pw12" not in found.everything


def test_of_several_databases_a_variables_prefix_says_which(tmp_path: Path) -> None:
    second = DB + "\nstock: {image: 'bitnami/postgresql:16', environment: {POSTGRESQL_DATABASE: stock, POSTGRESQL_PASSWORD: x}}"
    found = web(
        tmp_path,
        {"ORDERS_DB_HOST": "db", "ORDERS_DB_PASSWORD": "aa11", "STOCK_DB_HOST": "stock", "STOCK_DB_PASSWORD": "bb22"},
        second,
    )
    environment = found.service("web")["environment"]
    assert environment["ORDERS_DB_PASSWORD"] == "${db.password}" and environment["STOCK_DB_PASSWORD"] == "${stock.password}"
    assert found.service("web")["depends_on"] == ["db", "stock"]


@pytest.mark.parametrize(
    ("image", "title"),
    [
        ("postgres", "PostgreSQL"),
        ("docker.io/library/postgres:16-alpine", "PostgreSQL"),
        ("bitnami/postgresql:16", "PostgreSQL"),
        ("bitnamilegacy/postgresql-repmgr:15", "PostgreSQL"),
        ("registry:5000/team/postgres@sha256:0", "PostgreSQL"),
        ("timescale/timescaledb:latest-pg16", "PostgreSQL with timescaledb"),
        ("timescale/timescaledb-ha:pg16", "PostgreSQL with timescaledb"),
        ("postgis/postgis:16-3.4", "PostgreSQL with postgis"),
        ("citusdata/citus:12", "PostgreSQL with citus"),
        ("pgvector/pgvector:pg16", "PostgreSQL with vector"),
        ("registry.redhat.io/rhel9/postgresql-15:1", "PostgreSQL"),
        ("ghcr.io/cloudnative-pg/postgresql:16", "PostgreSQL"),
        ("ghcr.io/zalando/spilo-15:3.0", "PostgreSQL"),
        ("mysql:8", "MySQL"),
        ("mariadb", "MariaDB"),
        ("mongo:7", "MongoDB"),
        ("ghcr.io/valkey-io/valkey:8", "Redis"),
        ("confluentinc/cp-kafka:7", "Kafka"),
        ("rabbitmq:3-management", "RabbitMQ"),
        ("docker.elastic.co/elasticsearch/elasticsearch:8", "Elasticsearch"),
        ("mcr.microsoft.com/mssql/server:2022-latest", "SQL Server"),
        ("quay.io/prometheuscommunity/postgres-exporter", ""),
        ("edoburu/pgbouncer", ""),
        ("dpage/pgadmin4", ""),
        ("mongo-express", ""),
        ("shop/web", ""),
    ],
)
def test_servers_are_known_by_their_images(image: str, title: str) -> None:
    found = engines.by_image(image)
    assert (found.title if found else "") == title


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("command: postgres -c max_connections=200", "databases"),
        ("command: ['-c', 'fsync=off']", "databases"),
        ("entrypoint: [docker-entrypoint.sh, postgres]", "databases"),
        ("entrypoint: [sh, -c, 'x && exec postgres -c a=b']", "databases"),
        ("command: pg_dump -h db shop", "services"),
        ("entrypoint: [/bin/sh, -c, 'psql -h db -f /x.sql']", "services"),
    ],
)
def test_a_client_in_the_servers_image_is_no_server(command: str, kind: str, tmp_path: Path) -> None:
    found = compose(tmp_path, f"{DB}\nother:\n  image: postgres:16\n  {command}")
    assert "other" in found.plain[kind]


def test_a_server_behind_a_shell_is_one(tmp_path: Path) -> None:
    found = compose(tmp_path, "cache: {image: 'redis:7', command: sh -c 'exec redis-server --requirepass $$WORD'}")
    assert (found.service("cache")["ports"], found.service("cache")["protocol"]) == ([6379], "tcp")


def test_an_extension_that_is_not_there_is_said(tmp_path: Path) -> None:
    found = compose(
        tmp_path, "db: {image: 'timescale/timescaledb:latest-pg16', environment: {POSTGRES_PASSWORD: x}}\na: {image: x}"
    )
    assert "the extension timescaledb is not there" in found.said("service db")[0]


def test_sql_that_fills_a_database_is_not_copied(tmp_path: Path) -> None:
    services = "db: {image: 'postgres:16', volumes: ['./init.sql:/docker-entrypoint-initdb.d/init.sql', 'd:/var/lib/postgresql/data']}\na: {image: x}"
    found = compose(tmp_path, services, **{"init.sql": "insert into customers values ('Ada Lovelace');"})
    assert "Lovelace" not in found.everything
    assert "seed.sql" in found.said("service db", "seed")[0]


@pytest.mark.parametrize(
    ("value", "expected", "mode"),
    [
        ("https://api.stripe.com/v1/charges", "${stripe.url}/v1/charges", "stubbed"),
        ("https://sqs.eu-west-1.amazonaws.com/123/orders", "${aws-sqs.url}/123/orders", "stubbed"),
        ("https://shop.blob.core.windows.net/x", "${azure-blob.url}/x", "stubbed"),
        ("https://storage.googleapis.com/shop", "${gcp-storage.url}/shop", "stubbed"),
        ("https://rates.partner.example.com/v2", "${rates-partner-example-com.url}/v2", "stubbed"),
        ("redis://cache.abc.euw1.cache.amazonaws.com:6379", "redis://aws-elasticache.invalid:6379", "left-out"),
        ("mongodb+srv://u:pw99pw99@cluster0.ab1cd.mongodb.net/shop", "mongodb+srv://u:podctl-replaced-0001@mongodb-atlas.invalid/shop", "left-out"),
        ("amqps://shop.servicebus.windows.net:5671", "amqps://azure-servicebus.invalid:5671", "left-out"),
        ("smtp.mailhost.example.com", "smtp.invalid", "left-out"),
    ],
)  # fmt: skip
def test_what_is_somebody_elses_becomes_a_stub_or_is_left_out(value: str, expected: str, mode: str, tmp_path: Path) -> None:
    found = web(tmp_path, {"SERVICE_URL": value}, "")
    assert found.service("web")["environment"]["SERVICE_URL"] == expected
    name = next(name for name, service in found.plain["services"].items() if service.get("mode") == mode)
    line = next(line for line in found.lines if line["subject"] == f"service {name}" and not line["key"])
    assert line["status"] == {"stubbed": "stubbed", "left-out": "left out"}[mode] and line["file"].endswith("compose.yaml")
    if mode == "stubbed":
        assert {route["status"] for route in found.service(name)["routes"]} == {501}


def test_a_managed_postgresql_becomes_a_database(tmp_path: Path) -> None:
    url = "postgresql://app:pw77pw77@shop.c1.eu-west-1.rds.amazonaws.com:5432/orders?sslmode=require"
    found = web(tmp_path, {"DATABASE_URL": url}, "")
    assert found.plain["databases"] == {"orders": {"name": "orders"}}
    assert found.service("web")["environment"]["DATABASE_URL"].endswith("?sslmode=disable")
    assert "Amazon RDS" in found.said("database orders")[0] and "pw77" not in found.everything


@pytest.mark.parametrize(
    "value",
    ["http://localhost:80", "http://127.0.0.1", "http://*:80", "file:///etc/x.conf", "a.json", "com.example.Main", "1.2.3.4:80", "jdbc:h2:mem:x", "http://www.w3.org/2000/svg"],
)  # fmt: skip
def test_what_is_nobodys_address_stays(value: str, tmp_path: Path) -> None:
    found = web(tmp_path, {"SETTING": value}, "")
    assert found.service("web")["environment"]["SETTING"] == value and set(found.plain["services"]) == {"web"}


def test_the_same_third_party_is_one_stub() -> None:
    assert outside.judge("api.stripe.com").name == outside.judge("files.stripe.com").name == "stripe"
