"""Reads exported tables with DuckDB and PyArrow, and runs the queries of docs/SQL.md over them.

    tables.py DOCUMENT DDL FOLDER FROM
        DDL     a JSON file: {"duckdb": [statement, ...], "athena": [...], ...}
        prints {"tables": {"observations": [[cell, ...], ...], ...}, "rows": {...}, "files": {...}} as JSON
"""

import json
import re
import sys

import pyarrow as pa
import pyarrow.dataset as datasets
import sqlglot

from statements import open_views

document, ddl, folder, first_day = sys.argv[1:]
with open(document, encoding="utf-8") as file:
    found = dict(re.findall(r"<!-- sql: tables ([a-z ]+) -->\n```sql\n(.*?)\n```", file.read(), re.DOTALL))


def files_read(plan):
    """The files that all scans of a plan have read."""
    if isinstance(plan, list):
        return sum(map(files_read, plan))
    if not isinstance(plan, dict):
        return 0
    return int(plan.get("Total Files Read", 0)) + sum(map(files_read, plan.values()))


def cells(table):
    """Rows as lists: times as microseconds, the partition left out."""
    columns = []
    for name in table.column_names:
        if name == "date":
            continue
        column = table.column(name)
        columns.append((column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist())
    return [list(row) for row in zip(*columns)]


database, names = open_views(ddl)
tables = {}
for name in names:
    by_duckdb = cells(database.sql(f"SELECT * FROM {name}").to_arrow_table())
    by_pyarrow = cells(datasets.dataset(f"{folder}/{name}", partitioning="hive", format="parquet").to_table())
    same = sorted(map(json.dumps, by_duckdb)) == sorted(map(json.dumps, by_pyarrow))
    assert same, f"{name}: DuckDB and PyArrow read different rows"
    tables[name] = by_pyarrow

rows, files = {}, {}
for name, sql in found.items():
    sqlglot.parse_one(sql, read="athena", error_level=sqlglot.ErrorLevel.RAISE)
    sql = sql.replace("2026-01-01", first_day)
    answer = database.execute(sql)
    columns = [it[0] for it in answer.description]
    rows[name] = [dict(zip(columns, row)) for row in answer.fetchall()]
    files[name] = files_read(json.loads(database.execute(f"EXPLAIN (ANALYZE, FORMAT json) {sql}").fetchall()[0][1]))
print(json.dumps({"tables": tables, "rows": rows, "files": files}, default=str))
