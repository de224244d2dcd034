"""Reads the tables that the worker `tables` writes, with DuckDB and PyArrow.

    institutes.py DDL FOLDER
        DDL     a JSON file: {"duckdb": [statement, ...], "athena": [...], ...}
        FOLDER  TABLE/source=INSTITUTE/date=DAY/part-00001.parquet
        prints {"observations": [{column: cell, ...}, ...], ...} as JSON
"""

import json
import pathlib
import sys

import pyarrow as pa
import pyarrow.dataset as datasets

from statements import open_views

ddl, folder = sys.argv[1:]


def cells(column):
    """Values of a column; times in UTC without a zone, which needs no further package."""
    return (column.cast(pa.timestamp("us")) if pa.types.is_timestamp(column.type) else column).to_pylist()


database, names = open_views(ddl)
tables = {}
for name in names:
    table = database.sql(f"SELECT * FROM {name} ORDER BY ALL").to_arrow_table()
    columns = table.column_names
    assert len(columns) == len(set(columns)), f"{name}: {columns}"
    tables[name] = [dict(zip(columns, row)) for row in zip(*map(cells, table.columns))]
    # PyArrow, which guesses the types of partitions unless told.
    partitions = datasets.partitioning(pa.schema([("source", pa.string()), ("date", pa.string())]), flavor="hive")
    place = pathlib.Path(folder, name)
    found = datasets.dataset(place, partitioning=partitions, format="parquet").to_table()
    assert found.num_rows == len(tables[name]), name
    assert sorted(map(str, found["source"].to_pylist())) == sorted(row["source"] for row in tables[name]), name
print(json.dumps(tables, default=str))
