"""Runs the statements of `sluice sql ddl --engine spark` and the queries of docs/SQL.md over exported tables, in Spark.

    spark.py DOCUMENT DDL FROM
        DDL     a JSON file: {"spark": [statements, ...], "spark by institute": [...], ...}
        prints {"tables": {"observations": [[cell, ...], ...], ...}, "rows": {...}, "institutes": {"observations": {institute: rows}}} as JSON
"""

import json
import pathlib
import re
import sys
import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as f
from pyspark.sql.types import TimestampNTZType, TimestampType

document, ddl, first_day = sys.argv[1:]
found = dict(re.findall(r"<!-- sql: tables ([a-z ]+) -->\n```sql\n(.*?)\n```", pathlib.Path(document).read_text("utf-8"), re.DOTALL))
statements = json.loads(pathlib.Path(ddl).read_text("utf-8"))


def cell(field):
    """Times as microseconds."""
    column = f.col(f"`{field.name}`")
    if isinstance(field.dataType, (TimestampType, TimestampNTZType)):
        column = f.unix_micros(column.cast("timestamp"))
    return column


def made(texts):
    """Runs the statements for each table, and gives the table's name."""
    for text in texts:
        for statement in re.split(r";\s*(?:\n|$)", text):
            if statement.strip():
                spark.sql(statement)
        yield re.match(r"CREATE TABLE (\w+)", text)[1]


with tempfile.TemporaryDirectory() as scratch:
    settings = {
        "spark.master": "local[2]",
        "spark.ui.enabled": "false",
        "spark.log.level": "ERROR",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.warehouse.dir": scratch,
        "spark.driver.host": "127.0.0.1",
    }
    builder = SparkSession.builder
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    tables = {}
    for name in made(statements["spark"]):
        frame = spark.table(name)
        fields = [it for it in frame.schema.fields if it.name != "date"]
        tables[name] = [list(row) for row in frame.select(*map(cell, fields)).collect()]
    rows = {}
    for name, sql in found.items():
        rows[name] = [row.asDict() for row in spark.sql(sql.replace("2026-01-01", first_day)).collect()]
    spark.sql("CREATE DATABASE institutes")
    spark.sql("USE institutes")
    institutes = {}
    for name in made(statements["spark by institute"]):
        institutes[name] = {row["source"]: row["count"] for row in spark.table(name).groupBy("source").count().collect()}
    spark.stop()
print(json.dumps({"tables": tables, "rows": rows, "institutes": institutes}, default=str))
