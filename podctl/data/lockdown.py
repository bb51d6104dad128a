"""What a template gets besides its data: capture of every row change, and nothing for the public."""

from __future__ import annotations

import psycopg
from psycopg import sql

from podctl.data.catalog import USER_SCHEMA, Catalog, shown_name
from podctl.data.connect import Connection
from podctl.data.seed import SeedProblem

#: Every service's role is a member: what services may do is part of the template and costs a reset nothing.
SERVICE_GROUP = "podctl_service"
#: SQL checks run as this role.
CHECK_ROLE = "podctl_check"
PUBLICATION = "podctl"
#: Prefix of the logical messages that say whose transaction it is.
MESSAGE_PREFIX = "podctl"
STATEMENT_KEPT = 2000

# Logical decoding carries no user, and the log of an autocommit statement no transaction id; a message
# inside the transaction ties the two. Rows that a trigger or a cascade changed come with a depth above 1.
_ATTRIBUTE = f"""
CREATE FUNCTION podctl.attribute() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_catalog.pg_logical_emit_message(true, '{MESSAGE_PREFIX}', pg_catalog.json_build_object(
        'user', session_user, 'pid', pg_catalog.pg_backend_pid(), 'table', TG_RELID::pg_catalog.int8,
        'depth', pg_catalog.pg_trigger_depth(), 'statement', pg_catalog."left"(pg_catalog.current_query(), {STATEMENT_KEPT})
    )::pg_catalog.text);
    RETURN NULL;
END $$"""

# Writers of large objects (which no publication shows), sleeping, locks that services may rely on, and messages.
# set_config stays: SET does the same and cannot be revoked, while common drivers call it on connecting.
_NOT_FOR_AGENTS = (
    *("lo_creat", "lo_create", "lo_from_bytea", "lo_import", "lo_put", "lo_truncate", "lo_truncate64", "lo_unlink", "lowrite"),
    *("pg_sleep", "pg_sleep_for", "pg_sleep_until", "pg_notify"),
    *("pg_advisory_lock", "pg_advisory_lock_shared", "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared"),
    *("pg_try_advisory_lock", "pg_try_advisory_lock_shared", "pg_try_advisory_xact_lock", "pg_try_advisory_xact_lock_shared"),
)
# With it anyone could sign a row change with another's name.
_FOR_PODCTL_ONLY = ("pg_logical_emit_message",)


async def ensure_roles(admin: Connection) -> None:
    """The group of services and the role of checks, and no way for others into the maintenance databases."""
    for role, attributes in ((SERVICE_GROUP, "NOLOGIN"), (CHECK_ROLE, "NOLOGIN BYPASSRLS IN ROLE pg_read_all_data")):
        cursor = await admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
        if await cursor.fetchone() is None:
            await admin.execute(sql.SQL(f"CREATE ROLE {{}} {attributes}").format(sql.Identifier(role)))
    await admin.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")


async def prepare_capture(connection: Connection, catalog: Catalog) -> None:
    """Make every table's changes visible to logical decoding, with old rows and with who made them."""
    await _refuse_virtual(connection)
    await _set_logged(connection)
    await connection.execute("CREATE SCHEMA podctl")
    await connection.execute(_ATTRIBUTE)
    for table in catalog.tables.values():
        if table.relkind not in ("r", "p"):
            continue
        name = sql.Identifier(table.schema, table.name)
        await connection.execute(sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(name))
        await connection.execute(
            sql.SQL(
                "CREATE TRIGGER podctl_attribute AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {}"
                " FOR EACH STATEMENT EXECUTE FUNCTION podctl.attribute()"
            ).format(name)
        )
    publication = sql.SQL("CREATE PUBLICATION {} FOR ALL TABLES").format(sql.Identifier(PUBLICATION))
    if connection.info.server_version >= 180000:
        # Without it PostgreSQL 18 refuses to update a table that has such a column and shows its old rows.
        publication += sql.SQL(" WITH (publish_generated_columns = stored)")
    await connection.execute(publication)


async def _refuse_virtual(connection: Connection) -> None:
    """Raises `SeedProblem`: a table with a virtual column could not be updated once its changes are captured."""
    cursor = await connection.execute(
        "SELECT n.nspname, c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE a.attgenerated = 'v' AND {USER_SCHEMA} ORDER BY 1, 2, 3"
    )
    virtual = [f"{shown_name(schema, table)}.{column}" for schema, table, column in await cursor.fetchall()]
    if virtual:
        raise SeedProblem(
            f"virtual generated columns cannot be mirrored: {', '.join(virtual)}",
            code="seed-virtual",
            cause="PostgreSQL has no logical decoding, which records row changes, for tables with virtual columns",
            unchanged="nothing was made",
            hint="write GENERATED ALWAYS AS (...) STORED in the seed: agents and services see the same values",
        )


async def _set_logged(connection: Connection) -> None:
    # An unlogged table may refer to another one, which has to be converted before it: go round until none is left.
    left = -1
    while True:
        cursor = await connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            f" WHERE c.relkind = 'r' AND c.relpersistence = 'u' AND {USER_SCHEMA}"
        )
        unlogged = await cursor.fetchall()
        if not unlogged or len(unlogged) == left:
            return
        left = len(unlogged)
        for schema, name in unlogged:
            try:
                await connection.execute(sql.SQL("ALTER TABLE {} SET LOGGED").format(sql.Identifier(schema, name)))
            except psycopg.errors.InvalidTableDefinition:
                continue


async def lock_down(connection: Connection) -> None:
    """Take everything from PUBLIC, and give services and checks theirs."""
    cursor = await connection.execute(f"SELECT n.nspname FROM pg_namespace n WHERE {USER_SCHEMA}")
    service, check = sql.Identifier(SERVICE_GROUP), sql.Identifier(CHECK_ROLE)
    for (schema,) in await cursor.fetchall():
        for statement in (
            "REVOKE ALL ON SCHEMA {schema} FROM PUBLIC",
            "REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM PUBLIC",
            "REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM PUBLIC",
            "REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA {schema} FROM PUBLIC",
            "GRANT USAGE ON SCHEMA {schema} TO {service}",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {service}",
            "GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA {schema} TO {service}",
            "GRANT EXECUTE ON ALL ROUTINES IN SCHEMA {schema} TO {service}, {check}",
        ):
            await connection.execute(sql.SQL(statement).format(schema=sql.Identifier(schema), service=service, check=check))
    await _trusted_extensions(connection)
    # DO blocks would hide statements from the log and could write lines into it that look like the server's.
    cursor = await connection.execute("SELECT lanname FROM pg_language WHERE lanpltrusted AND lanname <> 'sql'")
    for (language,) in await cursor.fetchall():
        for statement in ("REVOKE ALL ON LANGUAGE {language} FROM PUBLIC", "GRANT USAGE ON LANGUAGE {language} TO {service}"):
            await connection.execute(sql.SQL(statement).format(language=sql.Identifier(language), service=service))
    await connection.execute("REVOKE ALL ON SCHEMA podctl FROM PUBLIC")
    await connection.execute("REVOKE ALL ON FUNCTION podctl.attribute() FROM PUBLIC")
    for names, to_services in ((_NOT_FOR_AGENTS, True), (_FOR_PODCTL_ONLY, False)):
        cursor = await connection.execute(
            "SELECT p.oid::regprocedure::text FROM pg_proc p"
            " WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (%s)",
            (list(names),),
        )
        for (signature,) in await cursor.fetchall():
            await connection.execute(f"REVOKE EXECUTE ON FUNCTION {signature} FROM PUBLIC".encode())
            if to_services:
                await connection.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {SERVICE_GROUP}".encode())


async def _trusted_extensions(connection: Connection) -> None:
    # Without their functions a citext or hstore column cannot even be compared; PostgreSQL itself marks
    # the extensions that are safe in anyone's hands.
    cursor = await connection.execute(
        "SELECT p.oid::regprocedure::text FROM pg_extension e"
        " JOIN pg_available_extension_versions v ON v.name = e.extname AND v.version = e.extversion AND v.trusted"
        " JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'"
        " JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid AND p.prokind = 'f'"
    )
    for (signature,) in await cursor.fetchall():
        await connection.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO PUBLIC".encode())
