//! Protobuf messages by hand, written and read back.
//!
//! ONNX needs a dozen message types of which each field is a number, a text or another message; a protobuf library
//! would be larger than all that writes them. Reading is for checks: it knows the three wire types that are written.

/// A protobuf message under construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// A number without a field: an element of a packed list.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A whole number.
    pub fn int(&mut self, field: u64, value: i64) -> &mut Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    /// A 32-bit floating-point number.
    pub fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Bytes, or an already encoded message or packed list.
    pub fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// A text.
    pub fn text(&mut self, field: u64, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    /// A message inside this one.
    pub fn message(&mut self, field: u64, message: &Self) -> &mut Self {
        self.bytes(field, &message.0)
    }

    /// The encoded message.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A field of a message that was read: its number, and its content (a whole number as 8 bytes, little endian).
pub type Field = (u64, Vec<u8>);

/// Fields of a message in order; `None` if the bytes are not one.
#[must_use]
pub fn fields(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let length = match key & 7 {
            0 => {
                all.push((key >> 3, varint(&mut bytes)?.to_le_bytes().to_vec()));
                continue;
            }
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (content, rest) = bytes.split_at_checked(length)?;
        all.push((key >> 3, content.to_vec()));
        bytes = rest;
    }
    Some(all)
}

/// The number at the front of `bytes`, which is taken off; `None` if there is no whole one.
#[must_use]
pub fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7F) << shift;
        if first < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Contents of all fields with this number.
#[must_use]
pub fn find(fields: &[Field], number: u64) -> Vec<&[u8]> {
    fields.iter().filter(|(n, _)| *n == number).map(|(_, content)| content.as_slice()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_half_of_it_is_not() {
        let mut inner = Message::default();
        inner.int(1, -2).float(2, 0.5);
        let mut message = Message::default();
        message.int(20, 300).text(3, "ä").message(4, &inner);
        let bytes = message.into_bytes();
        // 300 is 0xAC 0x02 in protobuf's documentation; field 20 as a number has the key 20 * 8 = 0xA0 0x01.
        assert_eq!(bytes[..4], [0xA0, 0x01, 0xAC, 0x02]);
        let read = fields(&bytes).expect("whole");
        assert_eq!(read[0], (20, 300_u64.to_le_bytes().to_vec()));
        assert_eq!(find(&read, 3), ["ä".as_bytes()]);
        let inside = fields(find(&read, 4)[0]).expect("whole");
        assert_eq!(inside, [(1, (-2_i64).to_le_bytes().to_vec()), (2, 0.5_f32.to_le_bytes().to_vec())]);
        assert_eq!(fields(&bytes[..bytes.len() - 1]), None, "cut short");
        assert_eq!(fields(&[0x80; 20]), None, "a number without an end");
    }
}
