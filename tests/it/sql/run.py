"""Runs the SQL of docs/SQL.md over a folder with DuckDB, and parses what is for Athena.

    run.py DOCUMENT LAKE SOURCE   prints {"by position": [{...}, ...], ...} as JSON

SOURCE stands for `general-hospital` of the document.
"""

import json
import re
import sys

import duckdb
import sqlglot

document, lake, source = sys.argv[1:]
with open(document, encoding="utf-8") as file:
    found = dict(re.findall(r"<!-- sql: ([a-z ]+) -->\n```sql\n(.*?)\n```", file.read(), re.DOTALL))

database = duckdb.connect()
answers = {}
for name, sql in found.items():
    if not name.startswith("duckdb"):
        parsed = sqlglot.parse_one(sql, read="athena", error_level=sqlglot.ErrorLevel.RAISE)
        assert not isinstance(parsed, sqlglot.exp.Command), f"{name} was passed over"
    if not name.startswith("athena"):
        sql = sql.replace("LAKE/", f"{lake}/").replace("'general-hospital'", f"'{source}'")
        answer = database.execute(sql)
        columns = [it[0] for it in answer.description]
        answers[name] = [dict(zip(columns, row)) for row in answer.fetchall()]
print(json.dumps(answers))
