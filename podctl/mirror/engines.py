"""Databases, queues and other servers, by the names of their images. PURE."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Engine:
    """``port`` is the one it listens on unless told otherwise; ``extension``: what podctl's own PostgreSQL lacks of it."""

    title: str
    port: int
    postgres: bool = False
    extension: str = ""
    http: bool = False


_POSTGRES = Engine("PostgreSQL", 5432, postgres=True)


def _with(extension: str) -> Engine:
    return Engine(f"PostgreSQL with {extension}", 5432, postgres=True, extension=extension)


#: The whole path of an image without registry and tag, from its end; the first that fits counts.
_KNOWN: tuple[tuple[str, Engine], ...] = (
    (r"timescale/timescaledb(-ha)?|timescaledb", _with("timescaledb")),
    (r"(postgis|kartoza|mdillon|imresamu|nickblah)/postgis|postgis", _with("postgis")),
    (r"citusdata/citus|citus", _with("citus")),
    (r"(pgvector|ankane|tensorchord)/(pgvector|pgvecto-rs|vchord-postgres)|pgvector", _with("vector")),
    (r"apache/age|age", _with("age")),
    (r"supabase/postgres", _with("Supabase's extensions")),
    (r"google/alloydbomni|alloydbomni", _with("AlloyDB's extensions")),
    (
        r"postgres|postgresql|postgresql-repmgr|postgresql-\d+(-\w+)?|cimg/postgres|spilo(-\d+)?|crunchy-postgres(-ha)?|postgresql-container",
        _POSTGRES,
    ),
    (r"mariadb(-galera)?", Engine("MariaDB", 3306)),
    (r"mysql|mysql-server|mysql-community-server|percona(-server|-xtradb-cluster)?|mysql-\d+(-\w+)?", Engine("MySQL", 3306)),
    (r"mongo|mongodb|mongodb-community-server|percona-server-mongodb|mongodb-sharded", Engine("MongoDB", 27017)),
    (r"ferretdb", Engine("FerretDB", 27017)),
    (r"redis(-stack(-server)?|-cluster|-sentinel)?|valkey(-bundle)?|keydb|dragonfly|redis-alpine", Engine("Redis", 6379)),
    (r"memcached", Engine("Memcached", 11211)),
    (r"kafka|cp-kafka|cp-server|kafka-native|redpanda", Engine("Kafka", 9092)),
    (r"zookeeper|cp-zookeeper", Engine("ZooKeeper", 2181)),
    (r"rabbitmq", Engine("RabbitMQ", 5672)),
    (r"activemq(-artemis|-classic)?", Engine("ActiveMQ", 61616)),
    (r"nats|nats-streaming", Engine("NATS", 4222)),
    (r"pulsar", Engine("Pulsar", 6650)),
    (r"eclipse-mosquitto|mosquitto", Engine("Mosquitto", 1883)),
    (r"elasticsearch", Engine("Elasticsearch", 9200, http=True)),
    (r"opensearch", Engine("OpenSearch", 9200, http=True)),
    (r"solr", Engine("Solr", 8983, http=True)),
    (r"meilisearch", Engine("Meilisearch", 7700, http=True)),
    (r"cassandra|scylla", Engine("Cassandra", 9042)),
    (r"cockroach", Engine("CockroachDB", 26257)),
    (r"yugabyte", Engine("YugabyteDB", 5433)),
    (r"mssql/server|mssql-server|azure-sql-edge", Engine("SQL Server", 1433)),
    (r"oracle(-free|-xe)?|database/(free|express|enterprise)", Engine("Oracle Database", 1521)),
    (r"(ibmcom|db2_community)/db2|db2", Engine("Db2", 50000)),
    (r"neo4j", Engine("Neo4j", 7687)),
    (r"influxdb", Engine("InfluxDB", 8086, http=True)),
    (r"clickhouse(-server)?", Engine("ClickHouse", 8123, http=True)),
    (r"couchdb", Engine("CouchDB", 5984, http=True)),
    (r"couchbase", Engine("Couchbase", 8091, http=True)),
    (r"dynamodb-local", Engine("DynamoDB Local", 8000, http=True)),
    (r"minio", Engine("MinIO", 9000, http=True)),
    (r"localstack(-pro)?", Engine("LocalStack", 4566, http=True)),
    (r"etcd", Engine("etcd", 2379, http=True)),
    (r"consul", Engine("Consul", 8500, http=True)),
    (r"vault", Engine("Vault", 8200, http=True)),
    (r"qdrant", Engine("Qdrant", 6333, http=True)),
    (r"weaviate", Engine("Weaviate", 8080, http=True)),
)
#: What a server is told by its environment when its image has a name of its own.
_POSTGRES_SETTINGS = {
    "POSTGRES_DB",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_PASSWORD_FILE",
    "PGDATA",
    "POSTGRES_HOST_AUTH_METHOD",
}
_POSTGRES_SETTINGS |= {"POSTGRESQL_DATABASE", "POSTGRESQL_USERNAME", "POSTGRESQL_USER", "POSTGRESQL_PASSWORD"}
_MYSQL_SETTINGS = {"MYSQL_ROOT_PASSWORD", "MYSQL_ALLOW_EMPTY_PASSWORD", "MYSQL_RANDOM_ROOT_PASSWORD", "MARIADB_ROOT_PASSWORD"}
#: Where PostgreSQL and its many images keep what makes them a server of their own.
_POSTGRES_PLACES = ("/var/lib/postgresql", "/docker-entrypoint-initdb.d", "/bitnami/postgresql", "/var/lib/pgsql")


def repository(image: str) -> str:
    """``registry:5000/a/b:tag@sha256:…`` -> ``a/b``."""
    path = image.partition("@")[0]
    first, slash, rest = path.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        path = rest
    head, slash, last = path.rpartition("/")
    return (head + slash + last.partition(":")[0]).lower()


def by_image(image: str) -> Engine | None:
    path = repository(image)
    if re.search(r"(exporter|operator|backup|proxy|bouncer|pgpool|insight|commander|ui|express|admin|client)$", path):
        return None
    for pattern, engine in _KNOWN:
        if re.fullmatch(rf"(?:.*/)?(?:{pattern})", path):
            return engine
    return None


def by_settings(environment: Collection[str], ports: Collection[int], places: Iterable[str], name: str = "") -> Engine | None:
    """A server in an image with a name of its own, as its environment and its port tell it."""
    told = set(environment)
    kept = any(place.startswith(_POSTGRES_PLACES) for place in places)
    listens = 5432 in ports or (
        not ports and re.search(r"(^|[-_])(db|database|postgres\w*|pg)($|[-_\d])", name.lower()) is not None
    )
    if len(told & _POSTGRES_SETTINGS) >= (1 if kept else 2) and listens:
        return _POSTGRES
    if told & _MYSQL_SETTINGS:
        return Engine("MySQL", 3306)
    return None
