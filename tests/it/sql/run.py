"""Runs the SQL of docs/SQL.md over a folder with DuckDB, and parses what is for Athena.

    run.py DOCUMENT LAKE SOURCE FROM MESSAGE_ID
        prints {"rows": {"by position": [{...}, ...], ...}, "files": {"by position": 3, ...}} as JSON: what each query
        finds, and how many files it reads for that

SOURCE stands for `general-hospital` of the document, FROM for its first day, MESSAGE_ID for that of one message.
"""

import json
import re
import sys

import duckdb
import sqlglot

document, lake, source, first_day, message_id = sys.argv[1:]
with open(document, encoding="utf-8") as file:
    found = dict(re.findall(r"<!-- sql: ([a-z ]+) -->\n```sql\n(.*?)\n```", file.read(), re.DOTALL))


def files_read(plan):
    """The files that all scans of a plan have read."""
    if isinstance(plan, list):
        return sum(map(files_read, plan))
    if not isinstance(plan, dict):
        return 0
    return int(plan.get("Total Files Read", 0)) + sum(map(files_read, plan.values()))


database = duckdb.connect()
rows, files = {}, {}
for name, sql in found.items():
    if not name.startswith("duckdb"):
        parsed = sqlglot.parse_one(sql, read="athena", error_level=sqlglot.ErrorLevel.RAISE)
        assert not isinstance(parsed, sqlglot.exp.Command), f"{name} was passed over"
    if name.startswith(("athena", "tables")):
        continue
    for written, meant in [("LAKE/", f"{lake}/"), ("general-hospital", source), ("2026-01-01", first_day), ("MESSAGE_ID", message_id)]:
        sql = sql.replace(written, meant)
    answer = database.execute(sql)
    columns = [it[0] for it in answer.description]
    rows[name] = [dict(zip(columns, row)) for row in answer.fetchall()]
    if not name.startswith("duckdb"):
        plan = json.loads(database.execute(f"EXPLAIN (ANALYZE, FORMAT json) {sql}").fetchall()[0][1])
        files[name] = files_read(plan)
print(json.dumps({"rows": rows, "files": files}))
