//! One Parquet file: image id, embedding, source probabilities.
//!
//! Columns are `image` (string), `embedding` and `probabilities` (list of float), as pandas, Polars, DuckDB and R's
//! arrow read them. Hashes of everything that went in are in the file's metadata.

mod headers;

use parquet::basic::{Compression, ConvertedType, Repetition, Type as PhysicalType};
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

/// Metadata key of what identifies a shard's content.
pub(super) const KEY: &str = "chestnut.shard_key";
/// Metadata key of the hash of the values, so that a damaged disk does not change results unnoticed.
const CONTENT: &str = "chestnut.content_sha256";
/// Largest shard that is read: 256 rows of 20,000 floats are 20 MB.
const MAX_BYTES: u64 = 256 << 20;
/// Most rows of a shard that is read.
const MAX_ROWS: i64 = 1 << 20;

/// A shard that cannot be written or read.
#[derive(Debug, Error)]
pub enum ShardError {
    /// The file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Its content.
    #[error("is no embedding table: {0}")]
    Parquet(#[from] ParquetError),
    /// Its shape.
    #[error("is no embedding table: {0}")]
    Shape(String),
}

/// Embeddings and source probabilities of some images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbeddingTable {
    /// Image ids.
    pub ids: Vec<String>,
    /// Width of an embedding.
    pub width: usize,
    /// `[image][width]`.
    pub embeddings: Vec<f32>,
    /// Outputs of the network's own head; may be 0.
    pub outputs: usize,
    /// `[image][output]`.
    pub probabilities: Vec<f32>,
}

impl EmbeddingTable {
    /// Adds an image.
    pub(super) fn push(&mut self, id: &str, embedding: &[f32], probabilities: &[f32]) {
        self.ids.push(id.to_owned());
        self.width = embedding.len();
        self.outputs = probabilities.len();
        self.embeddings.extend_from_slice(embedding);
        self.probabilities.extend_from_slice(probabilities);
    }

    /// Hash of ids and values.
    fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        self.ids.iter().for_each(|id| hash.update(format!("{id}\n")));
        hash.update((self.width as u64).to_le_bytes());
        self.embeddings.iter().chain(&self.probabilities).for_each(|v| hash.update(v.to_le_bytes()));
        crate::fs::to_hex(&hash.finalize())
    }

    /// The images named by `ids`, in that order; ids that are not there are left out.
    #[must_use]
    pub fn select(&self, ids: &[&str]) -> Self {
        let at: BTreeMap<&str, usize> = self.ids.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
        let mut chosen = Self { width: self.width, outputs: self.outputs, ..Self::default() };
        for &i in ids.iter().filter_map(|id| at.get(id)) {
            let embedding = &self.embeddings[i * self.width..][..self.width];
            chosen.push(&self.ids[i], embedding, &self.probabilities[i * self.outputs..][..self.outputs]);
        }
        chosen
    }

    /// Adds all images of `other`.
    pub(super) fn append(&mut self, mut other: Self) {
        if other.ids.is_empty() {
            return;
        }
        (self.width, self.outputs) = (other.width, other.outputs);
        self.ids.append(&mut other.ids);
        self.embeddings.append(&mut other.embeddings);
        self.probabilities.append(&mut other.probabilities);
    }
}

fn schema() -> Result<Type, ParquetError> {
    let list = |name: &str| -> Result<Type, ParquetError> {
        let element = Type::primitive_type_builder("element", PhysicalType::FLOAT)
            .with_repetition(Repetition::REQUIRED)
            .build()?;
        let items = Type::group_type_builder("list")
            .with_repetition(Repetition::REPEATED)
            .with_fields(vec![Arc::new(element)])
            .build()?;
        Type::group_type_builder(name)
            .with_repetition(Repetition::REQUIRED)
            .with_converted_type(ConvertedType::LIST)
            .with_fields(vec![Arc::new(items)])
            .build()
    };
    let image = Type::primitive_type_builder("image", PhysicalType::BYTE_ARRAY)
        .with_repetition(Repetition::REQUIRED)
        .with_converted_type(ConvertedType::UTF8)
        .build()?;
    Type::group_type_builder("embeddings")
        .with_fields(vec![Arc::new(image), Arc::new(list("embedding")?), Arc::new(list("probabilities")?)])
        .build()
}

/// Writes a shard atomically.
pub(super) fn write(
    path: &Path,
    table: &EmbeddingTable,
    metadata: &BTreeMap<String, String>,
    key: &str,
) -> Result<(), ShardError> {
    let content = table.sha256();
    let pairs = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).chain([(KEY, key), (CONTENT, content.as_str())]);
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_created_by(concat!("chestnut ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(pairs.map(|(k, v)| KeyValue::new(k.to_owned(), v.to_owned())).collect()))
        .build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, Arc::new(schema()?), Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    if let Some(mut column) = group.next_column()? {
        let ids: Vec<ByteArray> = table.ids.iter().map(|id| ByteArray::from(id.as_str())).collect();
        column.typed::<ByteArrayType>().write_batch(&ids, None, None)?;
        column.close()?;
    }
    for (values, width) in [(&table.embeddings, table.width), (&table.probabilities, table.outputs)] {
        if let Some(mut column) = group.next_column()? {
            // One level per value, or one empty list per row.
            let rows = table.ids.len();
            let definition = vec![i16::from(width > 0); rows * width.max(1)];
            let repetition: Vec<i16> = (0..rows * width.max(1)).map(|i| i16::from(i % width.max(1) != 0)).collect();
            column.typed::<FloatType>().write_batch(values, Some(&definition), Some(&repetition))?;
            column.close()?;
        }
    }
    group.close()?;
    writer.close()?;
    crate::fs::write_atomic(path, &bytes)?;
    Ok(())
}

fn open(path: &Path) -> Result<(SerializedFileReader<std::fs::File>, BTreeMap<String, String>), ShardError> {
    // Asked before opening: opening a named pipe would wait for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(ShardError::Shape("it is no regular file".to_owned()));
    }
    let mut file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    if size > MAX_BYTES {
        return Err(ShardError::Shape(format!("{size} bytes are more than the {MAX_BYTES} that are read")));
    }
    headers::check_footer(&mut file, size)?;
    let mut pages = file.try_clone()?;
    let reader = SerializedFileReader::new(file)?;
    for column in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        // The reader's own way to ask for this range ends the program if a number is negative.
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let range = u64::try_from(start).ok().zip(u64::try_from(column.compressed_size()).ok());
        match range.filter(|(start, length)| start.checked_add(*length).is_some_and(|end| end <= size)) {
            Some((start, length)) => headers::check_pages(&mut pages, start, length)?,
            None => return Err(ShardError::Shape("a column does not lie in the file".to_owned())),
        }
    }
    let pairs = reader.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    Ok((reader, pairs.into_iter().map(|kv| (kv.key, kv.value.unwrap_or_default())).collect()))
}

/// What is written beside the values of an existing shard, which are not looked at.
pub(super) fn metadata(path: &Path) -> Option<BTreeMap<String, String>> {
    Some(open(path).ok()?.1)
}

/// What identifies the content of an existing shard; `None` if there is none, or it is damaged.
pub(super) fn stored_key(path: &Path) -> Option<String> {
    read(path).ok()?.1.remove(KEY)
}

/// Reads a shard and its metadata.
pub(super) fn read(path: &Path) -> Result<(EmbeddingTable, BTreeMap<String, String>), ShardError> {
    let (reader, metadata) = open(path)?;
    let columns: Vec<String> =
        reader.metadata().file_metadata().schema_descr().columns().iter().map(|c| c.path().string()).collect();
    if columns != ["image", "embedding.list.element", "probabilities.list.element"] {
        return Err(ShardError::Shape(format!("its columns are {}", columns.join(", "))));
    }
    let mut table = EmbeddingTable::default();
    for g in 0..reader.num_row_groups() {
        let group = reader.get_row_group(g)?;
        let rows = group.metadata().num_rows();
        if !(0..=MAX_ROWS).contains(&rows) {
            return Err(ShardError::Shape(format!("{rows} rows")));
        }
        let rows = rows as usize;
        let mut ids: Vec<ByteArray> = Vec::new();
        get_typed_column_reader::<ByteArrayType>(group.get_column_reader(0)?)
            .read_records(rows, None, None, &mut ids)?;
        for id in &ids {
            table.ids.push(id.as_utf8()?.to_owned());
        }
        for (column, outputs) in [(1, false), (2, true)] {
            let (mut values, mut definition, mut repetition) = (Vec::new(), Vec::new(), Vec::new());
            let mut typed = get_typed_column_reader::<FloatType>(group.get_column_reader(column)?);
            let (read, _, _) = typed.read_records(rows, Some(&mut definition), Some(&mut repetition), &mut values)?;
            let width = values.len().checked_div(rows).unwrap_or(0);
            let starts = repetition.iter().filter(|&&r| r == 0).count();
            if read != rows || starts != rows || width * rows != values.len() {
                return Err(ShardError::Shape("rows of different widths".to_owned()));
            }
            if outputs {
                table.outputs = width;
                table.probabilities.append(&mut values);
            } else {
                table.width = width;
                table.embeddings.append(&mut values);
            }
        }
    }
    if table.ids.len() * table.width != table.embeddings.len() {
        return Err(ShardError::Shape("row groups of different widths".to_owned()));
    }
    if let Some(i) = table.embeddings.iter().position(|v| !v.is_finite()) {
        return Err(ShardError::Shape(format!("row {} holds a value that is not finite", i / table.width)));
    }
    if metadata.get(CONTENT) != Some(&table.sha256()) {
        return Err(ShardError::Shape("its values are not those that were written".to_owned()));
    }
    Ok((table, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.parquet");
        for outputs in [0, 3] {
            let mut table = EmbeddingTable::default();
            for i in 0..5 {
                let value = i as f32;
                table.push(&format!("image {i}"), &[value, -value, 0.5, 1e-30], &vec![value / 10.0; outputs]);
            }
            let metadata = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
            write(&path, &table, &metadata, "the key").expect("writes");
            assert_eq!(stored_key(&path).as_deref(), Some("the key"));
            let (found, found_metadata) = read(&path).expect("reads");
            assert_eq!(found, table);
            assert_eq!(found_metadata["a"], "b");
        }
        let whole = std::fs::read(&path).expect("a file");
        for cut in [0, 3, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).expect("writes");
            assert!(read(&path).is_err(), "cut at {cut}");
            assert_eq!(stored_key(&path), None);
        }
    }
}
