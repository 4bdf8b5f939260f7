//! DICOM files for tests, element by element, without any library: explicit little endian around whatever is given.
//!
//! The phantom's writer knows no padding, tables, windows, signs or compressed streams; these files do.

/// A file that is being put together.
#[derive(Clone)]
pub(super) struct TestFile {
    syntax: String,
    elements: std::collections::BTreeMap<u32, (&'static [u8; 2], Vec<u8>)>,
    /// Fragments of a compressed stream; else (7FE0,0010) is among the elements.
    fragments: Vec<Vec<u8>>,
}

impl TestFile {
    /// A grey image of `columns` times as many rows as `cells` fill, of 16 allocated bits.
    pub(super) fn grey(cells: &[u16], columns: usize, stored: u16, photometric: &str) -> Self {
        let mut file = Self {
            syntax: "1.2.840.10008.1.2.1".to_owned(),
            elements: std::collections::BTreeMap::new(),
            fragments: Vec::new(),
        };
        file.text(0x0008_0060, b"CS", "DX").text(0x0028_0004, b"CS", photometric).short(0x0028_0002, 1);
        file.short(0x0028_0010, (cells.len() / columns) as u16).short(0x0028_0011, columns as u16);
        file.short(0x0028_0100, 16).short(0x0028_0101, stored).short(0x0028_0102, stored - 1).short(0x0028_0103, 0);
        file.put(0x7FE0_0010, b"OW", cells.iter().flat_map(|v| v.to_le_bytes()).collect());
        file
    }

    /// Sets an element.
    pub(super) fn put(&mut self, tag: u32, vr: &'static [u8; 2], mut value: Vec<u8>) -> &mut Self {
        if value.len() % 2 == 1 {
            value.push(if vr == b"UI" || vr == b"OB" { 0 } else { b' ' });
        }
        self.elements.insert(tag, (vr, value));
        self
    }

    /// Removes an element.
    pub(super) fn remove(&mut self, tag: u32) -> &mut Self {
        self.elements.remove(&tag);
        self
    }

    /// Sets a text.
    pub(super) fn text(&mut self, tag: u32, vr: &'static [u8; 2], value: &str) -> &mut Self {
        self.put(tag, vr, value.as_bytes().to_vec())
    }

    /// Sets a 16-bit number.
    pub(super) fn short(&mut self, tag: u32, value: u16) -> &mut Self {
        self.put(tag, b"US", value.to_le_bytes().to_vec())
    }

    /// Sets a sequence of one item that holds a lookup table.
    pub(super) fn table(&mut self, tag: u32, first: i32, entries: &[u16], bits: u16) -> &mut Self {
        let mut item = Vec::new();
        let descriptor = [entries.len() as u16, first as u16, bits];
        element(&mut item, 0x0028_3002, b"US", &descriptor.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
        element(&mut item, 0x0028_3006, b"OW", &entries.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
        let mut sequence = vec![0xFE, 0xFF, 0x00, 0xE0];
        sequence.extend((item.len() as u32).to_le_bytes());
        sequence.extend(item);
        self.put(tag, b"SQ", sequence)
    }

    /// Replaces the pixels by a compressed stream in so many fragments.
    pub(super) fn compressed(&mut self, syntax: &str, stream: &[u8], fragments: usize) -> &mut Self {
        self.syntax = syntax.to_owned();
        self.elements.remove(&0x7FE0_0010);
        let length = stream.len().div_ceil(fragments).next_multiple_of(2);
        self.fragments = stream.chunks(length).map(<[u8]>::to_vec).collect();
        self
    }

    /// The bytes of the file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        bytes.extend(b"DICM");
        let mut meta = Vec::new();
        let mut uid = self.syntax.clone().into_bytes();
        if uid.len() % 2 == 1 {
            uid.push(0);
        }
        element(&mut meta, 0x0002_0010, b"UI", &uid);
        element(&mut bytes, 0x0002_0000, b"UL", &(meta.len() as u32).to_le_bytes());
        bytes.extend(meta);
        for (&tag, (vr, value)) in &self.elements {
            element(&mut bytes, tag, vr, value);
        }
        if !self.fragments.is_empty() {
            // Of undefined length; an empty offset table first.
            bytes.extend([0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
            bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0]);
            for fragment in &self.fragments {
                let padded = fragment.len().next_multiple_of(2);
                bytes.extend([0xFE, 0xFF, 0x00, 0xE0]);
                bytes.extend((padded as u32).to_le_bytes());
                bytes.extend(fragment);
                bytes.resize(bytes.len() + padded - fragment.len(), 0);
            }
            bytes.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
        }
        bytes
    }
}

/// Appends one element, explicit little endian.
fn element(bytes: &mut Vec<u8>, tag: u32, vr: &[u8; 2], value: &[u8]) {
    bytes.extend(((tag >> 16) as u16).to_le_bytes());
    bytes.extend((tag as u16).to_le_bytes());
    bytes.extend(vr);
    if matches!(vr, b"OB" | b"OW" | b"SQ" | b"UN" | b"UT") {
        bytes.extend([0, 0]);
        bytes.extend((value.len() as u32).to_le_bytes());
    } else {
        bytes.extend((value.len() as u16).to_le_bytes());
    }
    bytes.extend(value);
}
