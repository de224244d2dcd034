"""The statements that make the tables, by engine: {"duckdb": [statement, ...], "athena": [...], ...}."""

import json
import re

import duckdb
import sqlglot


def open_views(file):
    """A DuckDB database with the views that a file's statements make, and their names.

    No other engine runs here: a statement that its engine's dialect does not have fails.
    """
    with open(file, encoding="utf-8") as opened:
        statements = json.load(opened)
    for engine in statements:
        for statement in statements[engine]:
            for parsed in sqlglot.parse(statement, read=engine, error_level=sqlglot.ErrorLevel.RAISE):
                # sqlglot knows no RECOVER PARTITIONS.
                passed_over = isinstance(parsed, sqlglot.exp.Command) and "RECOVER PARTITIONS" not in parsed.sql().upper()
                assert not passed_over, f"{engine}: {statement}"
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    for statement in statements["duckdb"]:
        database.execute(statement)
    return database, [re.match(r"CREATE VIEW (\w+)", statement)[1] for statement in statements["duckdb"]]
