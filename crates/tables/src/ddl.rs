//! The statement with which an engine reads a table's Parquet files in place, under folders `date=YYYY-MM-DD`.

use std::fmt;
use std::str::FromStr;

use crate::cell::{Column, Kind};
use crate::table::Table;

/// An engine that reads Parquet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// DuckDB 1 and 2.
    DuckDb,
    /// Amazon Athena, engine version 3.
    Athena,
    /// Apache Spark 3.4 and later, which know times without a zone.
    Spark,
    /// ClickHouse.
    ClickHouse,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::DuckDb, Self::Athena, Self::Spark, Self::ClickHouse];

    /// `duckdb`.
    pub fn name(self) -> &'static str {
        match self {
            Self::DuckDb => "duckdb",
            Self::Athena => "athena",
            Self::Spark => "spark",
            Self::ClickHouse => "clickhouse",
        }
    }

    /// The statement for a table with these columns below `location`, `s3://BUCKET/tables` or a folder. The partition `date` is a text
    /// for every engine: left to guess, some make a day of it and some a number.
    pub fn ddl(self, table: Table, columns: &[Column], location: &str) -> String {
        let location = location.trim_end_matches('/').replace('\'', "''");
        let types = |quote: char, between: &str| {
            let types = columns.iter().map(|it| format!("{quote}{}{quote} {}", it.name, self.type_name(it.kind)));
            types.collect::<Vec<_>>().join(between)
        };
        match self {
            Self::DuckDb => format!(
                "CREATE VIEW {table} AS\nSELECT * FROM read_parquet(\n  '{location}/{table}/date=*/*.parquet',\n  \
                 hive_partitioning = true,\n  hive_types = {{'date': VARCHAR}}\n);\n"
            ),
            Self::Athena => format!(
                "CREATE EXTERNAL TABLE {table} (\n  {}\n)\nPARTITIONED BY (`date` string)\nSTORED AS PARQUET\n\
                 LOCATION '{location}/{table}/'\nTBLPROPERTIES (\n  'projection.enabled' = 'true',\n  \
                 'projection.date.type' = 'date',\n  'projection.date.format' = 'yyyy-MM-dd',\n  \
                 'projection.date.range' = '2026-01-01,NOW',\n  \
                 'storage.location.template' = '{location}/{table}/date=${{date}}/'\n);\n",
                types('`', ",\n  ")
            ),
            Self::Spark => format!(
                "CREATE TABLE {table} (\n  {},\n  `date` STRING\n)\nUSING PARQUET\nPARTITIONED BY (`date`)\n\
                 LOCATION '{location}/{table}/';\nALTER TABLE {table} RECOVER PARTITIONS;\n",
                types('`', ",\n  ")
            ),
            Self::ClickHouse => {
                let function = if location.starts_with("s3://") { "s3" } else { "file" };
                format!(
                    "CREATE VIEW {table} AS\nSELECT *, extract(_path, 'date=([^/]*)') AS date\nFROM {function}(\n  \
                     '{location}/{table}/date=*/*.parquet',\n  'Parquet',\n  '{}'\n);\n",
                    types('`', ", ").replace('\'', "''")
                )
            }
        }
    }

    fn type_name(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::DuckDb, Kind::Text) => "VARCHAR",
            (Self::DuckDb, Kind::Instant) => "TIMESTAMPTZ",
            (Self::DuckDb, Kind::Local) => "TIMESTAMP",
            (Self::Athena, Kind::Text) => "string",
            (Self::Athena, Kind::Integer) => "bigint",
            (Self::Athena, Kind::Number) => "double",
            (Self::Athena, Kind::Instant | Kind::Local) => "timestamp",
            (Self::Spark, Kind::Text) => "STRING",
            (Self::DuckDb | Self::Spark, Kind::Integer) => "BIGINT",
            (Self::DuckDb | Self::Spark, Kind::Number) => "DOUBLE",
            (Self::Spark, Kind::Instant) => "TIMESTAMP",
            (Self::Spark, Kind::Local) => "TIMESTAMP_NTZ",
            (Self::ClickHouse, Kind::Text) => "Nullable(String)",
            (Self::ClickHouse, Kind::Integer) => "Nullable(Int64)",
            (Self::ClickHouse, Kind::Number) => "Nullable(Float64)",
            (Self::ClickHouse, Kind::Instant | Kind::Local) => "Nullable(DateTime64(6, 'UTC'))",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No statement is known for an engine of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no such engine")]
pub struct UnknownEngine;

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        Self::ALL.into_iter().find(|it| it.name() == text).ok_or(UnknownEngine)
    }
}
