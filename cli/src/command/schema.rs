//! `--schema FILE`, of every command that shows the parts of messages.

use std::path::PathBuf;

use anyhow::Result;
use hl7::Schema;

use crate::data_file;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SchemaArg {
    /// A TOML file that names your own segments (`Z..`), their fields and data types.
    #[arg(long = "schema", value_name = "FILE", env = "SLUICE_SCHEMA")]
    pub(super) path: Option<PathBuf>,
}

impl SchemaArg {
    /// The schema of the file; without one, that of the standard.
    ///
    /// # Errors
    /// As [`data_file::read`].
    pub(super) fn read(&self) -> Result<&'static Schema> {
        self.path.as_deref().map_or(Ok(Schema::standard()), |path| data_file::read(path, Schema::read))
    }
}
