//! The statement with which an engine reads a table's Parquet files in place, under folders `date=YYYY-MM-DD`, and `source=INSTITUTE`
//! above them where there are several institutes.

use std::fmt;
use std::str::FromStr;

use crate::cell::{Column, Kind};
use crate::table::Table;

/// The folders below a table's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `date=YYYY-MM-DD`, as an export writes them.
    Days,
    /// `source=INSTITUTE/date=YYYY-MM-DD`, as the worker `tables` writes them.
    Institutes,
}

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

    /// The statement for a table with these columns below `location`, `s3://BUCKET/tables` or a folder. The partitions are texts
    /// for every engine: left to guess, some make a day or a number of them. In Athena, a query of [`Layout::Institutes`] must name its
    /// `source`, so that a new institute needs no change.
    pub fn ddl(self, table: Table, columns: &[Column], location: &str, layout: Layout) -> String {
        let location = location.trim_end_matches('/');
        let location = match self {
            // Up to Spark 3.5, two quotes end a text and begin another.
            Self::Spark => location.replace('\\', r"\\").replace('\'', r"\'"),
            _ => location.replace('\'', "''"),
        };
        // A file has the institute as a column, too; an engine whose tables name their partitions takes it from the folder.
        let is_own = |column: &&Column| {
            layout == Layout::Days || column.name != "source" || matches!(self, Self::DuckDb | Self::ClickHouse)
        };
        let all = columns;
        let columns: Vec<&Column> = columns.iter().filter(is_own).collect();
        let types = |quote: char, between: &str| {
            let types = columns.iter().map(|it| format!("{quote}{}{quote} {}", it.name, self.type_name(it.kind)));
            types.collect::<Vec<_>>().join(between)
        };
        // What stands before `date` in the path, the types and the statements.
        let of = |institutes: &'static str| if layout == Layout::Institutes { institutes } else { "" };
        match self {
            Self::DuckDb => format!(
                "CREATE VIEW {table} AS\nSELECT * FROM read_parquet(\n  '{location}/{table}/{}date=*/*.parquet',\n  \
                 hive_partitioning = true,\n  hive_types = {{{}'date': VARCHAR}}\n);\n",
                of("source=*/"),
                of("'source': VARCHAR, ")
            ),
            Self::Athena => {
                let glue = GlueTable::new(table, all, &location, layout);
                let properties = glue.properties.iter().map(|(name, value)| format!("'{name}' = '{value}'")).collect::<Vec<_>>();
                format!(
                    "CREATE EXTERNAL TABLE {table} (\n  {}\n)\nPARTITIONED BY ({})\nSTORED AS PARQUET\n\
                     LOCATION '{}'\nTBLPROPERTIES (\n  {}\n);\n",
                    types('`', ",\n  "),
                    glue.partitions.iter().map(|name| format!("`{name}` string")).collect::<Vec<_>>().join(", "),
                    glue.location,
                    properties.join(",\n  ")
                )
            }
            Self::Spark => format!(
                "CREATE TABLE {table} (\n  {},\n{}  `date` STRING\n)\nUSING PARQUET\nPARTITIONED BY ({}`date`)\n\
                 LOCATION '{location}/{table}/';\nALTER TABLE {table} RECOVER PARTITIONS;\n",
                types('`', ",\n  "),
                of("  `source` STRING,\n"),
                of("`source`, ")
            ),
            Self::ClickHouse => {
                let function = if location.starts_with("s3://") { "s3" } else { "file" };
                format!(
                    "CREATE VIEW {table} AS\nSELECT *, extract(_path, 'date=([^/]*)') AS date\nFROM {function}(\n  \
                     '{location}/{table}/{}date=*/*.parquet',\n  'Parquet',\n  '{}'\n);\n",
                    of("source=*/"),
                    types('`', ", ").replace('\'', "''")
                )
            }
        }
    }

    /// Its type for a kind of column.
    pub fn type_name(self, kind: Kind) -> &'static str {
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

/// What Athena's statement says, part by part, as the Glue catalog keeps it: the stack of the tables has such tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlueTable {
    /// The columns of the files, without the partitions.
    pub columns: Vec<Column>,
    /// The partitions, which are texts.
    pub partitions: Vec<&'static str>,
    /// The table's folder.
    pub location: String,
    /// How Athena finds the partitions' folders.
    pub properties: Vec<(&'static str, String)>,
}

impl GlueTable {
    /// That of a table with these columns below `location`.
    pub fn new(table: Table, columns: &[Column], location: &str, layout: Layout) -> Self {
        let by_institute = layout == Layout::Institutes;
        let source = if by_institute { "source=${source}/" } else { "" };
        let mut properties = vec![("projection.enabled", "true".to_owned())];
        if by_institute {
            properties.push(("projection.source.type", "injected".to_owned()));
        }
        properties.extend([
            ("projection.date.type", "date".to_owned()),
            ("projection.date.format", "yyyy-MM-dd".to_owned()),
            ("projection.date.range", "2026-01-01,NOW".to_owned()),
            ("storage.location.template", format!("{location}/{table}/{source}date=${{date}}/")),
        ]);
        Self {
            columns: columns.iter().filter(|it| !by_institute || it.name != "source").cloned().collect(),
            partitions: if by_institute { vec!["source", "date"] } else { vec!["date"] },
            location: format!("{location}/{table}/"),
            properties,
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
