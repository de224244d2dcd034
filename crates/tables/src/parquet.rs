//! Rows as Apache Parquet: zstd, with dictionaries, a row group for each time that rows are written.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};

use crate::cell::{Cell, Column, Kind, Row};

/// The level of zstd: more takes twice the time for a few per cent.
const LEVEL: i32 = 3;

/// A Parquet file was not written: the disk is full, or the writer is closed. The text holds nothing of a row.
#[derive(Debug, thiserror::Error)]
#[error("writing Parquet: {0}")]
pub struct NotWritten(#[from] ParquetError);

/// A Parquet file that is being written.
///
/// Memory holds the rows of one [`ParquetFile::write`] and what they are compressed to, and of the rows before it only where they stand.
pub struct ParquetFile<W: Write + Send> {
    columns: Vec<Column>,
    writer: SerializedFileWriter<W>,
}

impl<W: Write + Send> std::fmt::Debug for ParquetFile<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetFile").field("columns", &self.columns.len()).finish_non_exhaustive()
    }
}

impl<W: Write + Send> ParquetFile<W> {
    /// Begins a file with these columns.
    ///
    /// # Errors
    /// [`NotWritten`]
    pub fn new(columns: &[Column], out: W) -> Result<Self, NotWritten> {
        let writer = SerializedFileWriter::new(out, schema(columns)?, properties()?)?;
        Ok(Self { columns: columns.to_vec(), writer })
    }

    /// Writes rows as a row group. Each has as many cells as there are columns; a cell of another kind than its column is absent.
    ///
    /// # Errors
    /// [`NotWritten`]
    pub fn write(&mut self, rows: &[Row]) -> Result<(), NotWritten> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        for (index, column) in self.columns.iter().enumerate() {
            let Some(mut writer) = group.next_column()? else { break };
            let cells = rows.iter().map(|row| row.get(index).and_then(Option::as_ref).filter(|it| it.kind() == column.kind));
            match column.kind {
                Kind::Text => write::<ByteArrayType>(&mut writer, column, cells, |cell| match cell {
                    Cell::Text(text) => ByteArray::from(text.as_str()),
                    _ => ByteArray::default(),
                })?,
                Kind::Number => write::<DoubleType>(&mut writer, column, cells, |cell| match cell {
                    Cell::Number(number) => *number,
                    _ => f64::NAN,
                })?,
                Kind::Integer | Kind::Instant | Kind::Local => {
                    write::<Int64Type>(&mut writer, column, cells, |cell| match cell {
                        Cell::Integer(number) | Cell::Instant(number) | Cell::Local(number) => *number,
                        _ => 0,
                    })?
                }
            }
            writer.close()?;
        }
        group.close()?;
        Ok(())
    }

    /// Ends the file, and gives back what it was written to.
    ///
    /// # Errors
    /// [`NotWritten`]
    pub fn finish(self) -> Result<W, NotWritten> {
        Ok(self.writer.into_inner()?)
    }
}

/// Writes a column of a row group; `value` is asked for cells of the column's own kind.
fn write<'a, T: DataType>(
    writer: &mut SerializedColumnWriter<'_>,
    column: &Column,
    cells: impl Iterator<Item = Option<&'a Cell>>,
    value: impl Fn(&Cell) -> T::T,
) -> Result<(), NotWritten> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    for cell in cells {
        levels.push(i16::from(cell.is_some()));
        values.extend(cell.map(&value));
    }
    let levels = if column.required { None } else { Some(levels.as_slice()) };
    writer.typed::<T>().write_batch(&values, levels, None)?;
    Ok(())
}

/// Puts files with these columns together, in order. Their row groups are copied as they are, without being decompressed.
///
/// # Errors
/// [`NotWritten`], also when one of them cannot be read or has other columns.
pub fn join_parquet<W: Write + Send>(columns: &[Column], parts: impl IntoIterator<Item = File>, out: W) -> Result<W, NotWritten> {
    let schema = schema(columns)?;
    let mut writer = SerializedFileWriter::new(out, Arc::clone(&schema), properties()?)?;
    for part in parts {
        let metadata = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional).parse_and_finish(&part)?;
        if metadata.file_metadata().schema() != schema.as_ref() {
            return Err(ParquetError::General("a part has other columns".to_owned()).into());
        }
        let page_index = metadata.page_index();
        for (at, group) in metadata.row_groups().iter().enumerate() {
            let mut copy = writer.next_row_group()?;
            for (index, column) in group.columns().iter().enumerate() {
                let result = ColumnCloseResult {
                    bytes_written: u64::try_from(column.compressed_size()).unwrap_or_default(),
                    rows_written: u64::try_from(group.num_rows()).unwrap_or_default(),
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: page_index.and_then(|it| it.column_index(at, index)).cloned(),
                    offset_index: page_index.and_then(|it| it.offset_index(at, index)).cloned(),
                };
                copy.append_column(&part, result)?;
            }
            copy.close()?;
        }
    }
    Ok(writer.into_inner()?)
}

fn properties() -> Result<WriterPropertiesPtr, NotWritten> {
    let compression = Compression::ZSTD(ZstdLevel::try_new(LEVEL)?);
    let created_by = concat!("sluice ", env!("CARGO_PKG_VERSION")).to_owned();
    Ok(Arc::new(WriterProperties::builder().set_compression(compression).set_created_by(created_by).build()))
}

fn schema(columns: &[Column]) -> Result<TypePtr, NotWritten> {
    let mut fields = Vec::new();
    for column in columns {
        let micros = |is_utc| LogicalType::timestamp(is_utc, TimeUnit::MICROS);
        let (physical, logical) = match column.kind {
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Integer => (Physical::INT64, None),
            Kind::Number => (Physical::DOUBLE, None),
            Kind::Instant => (Physical::INT64, Some(micros(true))),
            Kind::Local => (Physical::INT64, Some(micros(false))),
        };
        let repetition = if column.required { Repetition::REQUIRED } else { Repetition::OPTIONAL };
        let field = Type::primitive_type_builder(&column.name, physical).with_repetition(repetition);
        fields.push(Arc::new(field.with_logical_type(logical).build()?));
    }
    Ok(Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?))
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};

    use super::*;

    fn columns() -> Vec<Column> {
        let kinds = [Kind::Text, Kind::Integer, Kind::Number, Kind::Instant, Kind::Local];
        let optional = kinds.into_iter().map(|kind| Column::new(format!("{kind:?}").to_lowercase(), kind, "x"));
        let required = Column { required: true, ..Column::new("id", Kind::Text, "x") };
        std::iter::once(required).chain(optional).collect()
    }

    fn row(id: &str) -> Row {
        let cells = [Cell::Integer(-7), Cell::Number(0.5), Cell::Instant(1_000_001), Cell::Local(2)].map(Some);
        [Some(Cell::Text(id.to_owned())), Some(Cell::Text("\u{1F480}\0null".to_owned()))].into_iter().chain(cells).collect()
    }

    fn read(file: File) -> Vec<String> {
        let reader = SerializedFileReader::new(file).unwrap();
        reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect()
    }

    #[test]
    fn rows_come_back_from_a_file_and_from_files_put_together() {
        let folder = tempfile::tempdir().unwrap();
        let options = || File::options().read(true).write(true).create(true).truncate(false).clone();
        let file = |name: &str| options().open(folder.path().join(name)).unwrap();
        let absent: Row = [Some(Cell::Text("c".to_owned()))].into_iter().chain([None, None, None, None, None]).collect();
        for (name, groups) in [("1", vec![vec![row("a"), row("b")], vec![absent.clone()]]), ("2", vec![vec![row("d")]])] {
            let mut writer = ParquetFile::new(&columns(), file(name)).unwrap();
            for rows in groups {
                writer.write(&rows).unwrap();
            }
            writer.write(&[]).unwrap();
            writer.finish().unwrap();
        }
        let parts = [read(file("1")), read(file("2"))].concat();
        assert_eq!(parts.len(), 4);
        assert!(parts[0].contains("integer: -7, number: 0.5, instant: 1970-01-01 00:00:01"), "{}", parts[0]);
        assert!(parts[0].contains("\u{1F480}\0null") && parts[2].contains("text: null, integer: null"), "{parts:?}");
        join_parquet(&columns(), [file("1"), file("2")], file("whole")).unwrap();
        assert_eq!(read(file("whole")), parts);

        let other = columns().into_iter().take(2).collect::<Vec<_>>();
        let refused = join_parquet(&other, [file("1")], file("other")).unwrap_err();
        assert!(refused.to_string().contains("other columns"), "{refused}");
        // A table without rows has its columns.
        let empty = join_parquet(&columns(), [], file("empty")).unwrap();
        assert_eq!(SerializedFileReader::new(empty).unwrap().metadata().file_metadata().schema_descr().num_columns(), 6);
    }
}
