//! `sluice sql`

use std::path::PathBuf;

use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tables::{Engine, Layout, Table};

use super::export::{a_table, mapping};
use crate::error::ExitCode;
use crate::output::Output;

/// SQL for the tables that `export` and the stack NAME-tables write.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print the statements for an engine to read exported Parquet folders in place.
    Ddl {
        /// The engine.
        #[arg(long, value_parser = an_engine())]
        engine: Engine,
        /// Where the folders `observations/`, `patients/` and so on are: `s3://BUCKET/PREFIX`, or a folder.
        #[arg(long, value_name = "LOCATION")]
        location: String,
        /// Read the folders of the stack NAME-tables: TABLE/source=INSTITUTE/date=DAY.
        #[arg(long)]
        by_institute: bool,
        /// Only this table; may be given several times.
        #[arg(long, value_parser = a_table())]
        table: Vec<Table>,
        /// The mapping that the export used.
        #[arg(long, value_name = "FILE")]
        mapping: Option<PathBuf>,
    },
}

fn an_engine() -> impl TypedValueParser<Value = Engine> {
    PossibleValuesParser::new(Engine::ALL.map(Engine::name)).try_map(|name| name.parse::<Engine>())
}

pub(crate) fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let Action::Ddl { engine, location, by_institute, table, mapping: of } = args.action;
    let layout = if by_institute { Layout::Institutes } else { Layout::Days };
    let mapping = mapping(of.as_deref())?;
    let tables = if table.is_empty() { Table::ALL.to_vec() } else { table };
    for table in tables {
        output.line(engine.ddl(table, &mapping.columns(table), &location, layout).trim_end());
    }
    Ok(ExitCode::Success)
}
