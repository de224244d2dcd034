//! Rows as files: Parquet, CSV, NDJSON and ER7. A file consists of parts, which are joined without being read again.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use tables::{Cell, Column, ParquetFile, Row, join_parquet};

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Apache Parquet, compressed with zstd.
    Parquet,
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// One JSON object per line, without absent values.
    Ndjson,
    /// The messages one after another, in canonical form.
    Er7,
}

impl Format {
    /// The ending of its files.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Er7 => "er7",
        }
    }

    /// The format that a file's extension names.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "er7" | "hl7" => Some(Self::Er7),
            _ => None,
        }
    }

    /// Writes rows as a part of a file. The header of CSV belongs to the first part.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(self, columns: &[Column], rows: &[Row], with_header: bool, out: impl Write + Send) -> Result<()> {
        match self {
            Self::Parquet => {
                let mut file = ParquetFile::new(columns, out)?;
                file.write(rows)?;
                file.finish()?;
                Ok(())
            }
            Self::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                if with_header {
                    writer.write_record(columns.iter().map(|it| it.name.as_str()))?;
                }
                for row in rows {
                    writer.write_record(row.iter().map(|cell| cell.as_ref().map(Cell::to_string).unwrap_or_default()))?;
                }
                Ok(writer.flush()?)
            }
            Self::Ndjson => {
                let mut out = BufWriter::new(out);
                for row in rows {
                    let members =
                        columns.iter().zip(row).filter_map(|(column, cell)| Some((column.name.clone(), json(cell.as_ref()?))));
                    serde_json::to_writer(&mut out, &members.collect::<Map<String, Value>>())?;
                    out.write_all(b"\n")?;
                }
                Ok(out.flush()?)
            }
            Self::Er7 => {
                let mut out = BufWriter::new(out);
                for row in rows {
                    if let Some(Some(Cell::Text(message))) = row.last() {
                        out.write_all(message.as_bytes())?;
                    }
                }
                Ok(out.flush()?)
            }
        }
    }

    /// Joins parts, in order.
    ///
    /// # Errors
    /// When a part cannot be read, or the whole not be written.
    pub(crate) fn join(self, columns: &[Column], parts: &[PathBuf], out: impl Write + Send) -> Result<()> {
        let open = |path: &PathBuf| File::open(path).with_context(|| format!("reading {}", path.display()));
        if self == Self::Parquet {
            let parts = parts.iter().map(open).collect::<Result<Vec<_>>>()?;
            join_parquet(columns, parts, out)?;
            return Ok(());
        }
        let mut out = BufWriter::new(out);
        for path in parts {
            io::copy(&mut open(path)?, &mut out)?;
        }
        Ok(out.flush()?)
    }
}

fn json(cell: &Cell) -> Value {
    match cell {
        Cell::Integer(number) => (*number).into(),
        Cell::Number(number) => (*number).into(),
        Cell::Text(_) | Cell::Instant(_) | Cell::Local(_) => cell.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use domain::Er7;
    use tables::{Mapping, Table};

    use super::super::catalog::tests::entry;
    use super::*;

    const REPORT: &str = "MSH|^~\\&|LAB|||||ORU^R01|7|P|2.5.1\rPID|1||1e5\rOBX|1|NM|a^b,\"c\"^L||140\rOBX|2|ST|c||=1+1\\X0A\\x\r";

    fn rows(table: Table) -> Vec<Row> {
        Mapping::standard().unwrap().rows(table, &entry(), Some(&Er7::canonical(REPORT).unwrap()))
    }

    fn parts(format: Format, table: Table) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let columns = Mapping::standard().unwrap().columns(table);
        let paths = [0, 1].map(|number| {
            let path = folder.path().join(number.to_string());
            format.write(&columns, &rows(table), number == 0, File::create(&path).unwrap()).unwrap();
            path
        });
        let whole = folder.path().join("whole");
        format.join(&columns, &paths, File::create(&whole).unwrap()).unwrap();
        std::fs::read(&whole).unwrap()
    }

    #[test]
    fn parts_of_csv_and_ndjson_are_joined() {
        let csv = String::from_utf8(parts(Format::Csv, Table::Observations)).unwrap();
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let headers = reader.headers().unwrap().clone();
        let at = |name: &str| headers.iter().position(|it| it == name).unwrap();
        let columns = [at("patient_id"), at("code_text"), at("value"), at("value_number")];
        let found: Vec<_> = reader.records().map(|it| columns.map(|at| it.as_ref().unwrap()[at].to_owned())).collect();
        let expected = [["1e5", "b,\"c\"", "140", "140"], ["1e5", "", "=1+1\nx", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(found, [expected.clone(), expected].concat());

        let ndjson = String::from_utf8(parts(Format::Ndjson, Table::Observations)).unwrap();
        let found: Vec<Value> = ndjson.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((found.len(), &found[2]["value_number"], &found[2]["patient_id"]), (4, &140.0.into(), &"1e5".into()));
        assert_eq!(found[0]["received_at"], "2026-11-28T21:00:00.120Z");
        assert!(found[1].get("value_number").is_none());
        assert_eq!(String::from_utf8(parts(Format::Er7, Table::Raw)).unwrap(), REPORT.repeat(2));
    }

    #[test]
    fn the_extension_of_a_file_chooses_its_format() {
        for (name, format) in [("a.CSV", Some(Format::Csv)), ("a.b/c.jsonl", Some(Format::Ndjson))] {
            assert_eq!(Format::of(Path::new(name)), format);
        }
        assert_eq!((Format::of(Path::new("a.hl7")), Format::of(Path::new("folder"))), (Some(Format::Er7), None));
    }
}
