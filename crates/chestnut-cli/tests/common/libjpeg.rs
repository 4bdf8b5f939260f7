//! Grey baseline JPEG decoded to the very bits that libjpeg gives, and with it Pillow, the oracle's decoder.
//!
//! Decoders may differ by a grey level here and there, which moves an embedding by some tenths of a percent; with this
//! one the program can be held to the oracle's 1e-4 on real radiographs. For trusted test files only: it panics on
//! everything but 8-bit grey baseline without restart markers. Inverse transform: libjpeg's accurate integer method
//! (Loeffler, Ligtenberg and Moschytz 1989).

use std::collections::BTreeMap;

/// Positions of the coefficients in the order of the file.
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];
/// Fraction bits of the transform's constants, and of what is kept between its two passes.
const CONSTANT_BITS: u32 = 13;
const PASS_BITS: u32 = 2;

/// Length and bits of a code to its symbol.
type Codes = BTreeMap<(u32, u32), u8>;

struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    fn bit(&mut self) -> u32 {
        let byte = self.bytes.get(self.at / 8).copied().unwrap_or(0xFF);
        let bit = (byte >> (7 - self.at % 8)) & 1;
        self.at += 1;
        u32::from(bit)
    }

    fn symbol(&mut self, codes: &Codes) -> u8 {
        let mut code = 0;
        for length in 1..=16 {
            code = (code << 1) | self.bit();
            if let Some(&symbol) = codes.get(&(length, code)) {
                return symbol;
            }
        }
        panic!("no such Huffman code");
    }

    /// A signed number of `size` bits.
    fn number(&mut self, size: u8) -> i64 {
        let value = (0..size).fold(0_i64, |v, _| (v << 1) | i64::from(self.bit()));
        if size > 0 && value >> (size - 1) == 0 { value - (1 << size) + 1 } else { value }
    }
}

/// Width, height and pixels.
pub(crate) fn decode(bytes: &[u8]) -> (usize, usize, Vec<u8>) {
    let mut quantisation: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
    let mut codes: BTreeMap<u8, Codes> = BTreeMap::new();
    let (mut width, mut height, mut table) = (0, 0, 0);
    let mut at = 2;
    let (direct, alternating) = loop {
        let marker = bytes[at + 1];
        let length = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        let mut body = &bytes[at + 4..at + 2 + length];
        at += 2 + length;
        match marker {
            0xDB => {
                while let [id, rest @ ..] = body {
                    assert!(*id < 16, "8-bit quantisation");
                    quantisation.insert(*id, rest[..64].iter().map(|&v| i64::from(v)).collect());
                    body = &rest[64..];
                }
            }
            0xC4 => {
                while let [id, rest @ ..] = body {
                    let (counts, mut symbols) = rest.split_at(16);
                    let mut found = Codes::new();
                    let mut code = 0_u32;
                    for (length, &count) in (1..).zip(counts) {
                        for &symbol in &symbols[..usize::from(count)] {
                            found.insert((length, code), symbol);
                            code += 1;
                        }
                        symbols = &symbols[usize::from(count)..];
                        code <<= 1;
                    }
                    codes.insert(*id, found);
                    body = symbols;
                }
            }
            0xC0 => {
                assert_eq!((body[0], body[5]), (8, 1), "8 bits, one component");
                height = usize::from(u16::from_be_bytes([body[1], body[2]]));
                width = usize::from(u16::from_be_bytes([body[3], body[4]]));
                table = body[8];
            }
            0xDA => break (body[2] >> 4, 0x10 | (body[2] & 15)),
            0xC1..=0xCF | 0xDD => panic!("marker {marker:#x} is not baseline without restarts"),
            _ => {}
        }
    };
    let mut bits = Bits { bytes: unstuffed(&bytes[at..]), at: 0 };
    let (direct, alternating, scale) = (&codes[&direct], &codes[&alternating], &quantisation[&table]);
    let mut pixels = vec![0; width * height];
    let mut level = 0;
    for top in (0..height).step_by(8) {
        for left in (0..width).step_by(8) {
            let mut block = [0_i64; 64];
            let size = bits.symbol(direct);
            level += bits.number(size);
            block[0] = level * scale[0];
            let mut k = 1;
            while k < 64 {
                let symbol = bits.symbol(alternating);
                let (run, size) = (usize::from(symbol >> 4), symbol & 15);
                match (run, size) {
                    (15, 0) => k += 16,
                    (_, 0) => break,
                    _ => {
                        k += run;
                        block[ZIGZAG[k]] = bits.number(size) * scale[k];
                        k += 1;
                    }
                }
            }
            transform(&mut block);
            for y in top..height.min(top + 8) {
                for x in left..width.min(left + 8) {
                    pixels[y * width + x] = (block[(y - top) * 8 + x - left] + 128).clamp(0, 255) as u8;
                }
            }
        }
    }
    (width, height, pixels)
}

/// The coded bits up to the next marker.
fn unstuffed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        out.push(bytes[at]);
        if bytes[at] == 0xFF {
            if bytes.get(at + 1) != Some(&0) {
                out.pop();
                break;
            }
            at += 1;
        }
        at += 1;
    }
    out
}

/// Columns, then rows.
fn transform(block: &mut [i64; 64]) {
    for column in 0..8 {
        let line = one_line(std::array::from_fn(|i| block[i * 8 + column]), CONSTANT_BITS - PASS_BITS);
        (0..8).for_each(|i| block[i * 8 + column] = line[i]);
    }
    for row in 0..8 {
        let line = one_line(std::array::from_fn(|i| block[row * 8 + i]), CONSTANT_BITS + PASS_BITS + 3);
        (0..8).for_each(|i| block[row * 8 + i] = line[i]);
    }
}

/// Eight values, scaled down by `shift` bits with rounding.
fn one_line(v: [i64; 8], shift: u32) -> [i64; 8] {
    let z = (v[2] + v[6]) * 4433;
    let (c, d) = (z - v[6] * 15137, z + v[2] * 6270);
    let (a, b) = ((v[0] + v[4]) << CONSTANT_BITS, (v[0] - v[4]) << CONSTANT_BITS);
    let even = [a + d, b + c, b - c, a - d];

    let [t0, t1, t2, t3] = [v[7], v[5], v[3], v[1]];
    let z5 = (t0 + t2 + t1 + t3) * 9633;
    let (z1, z2) = ((t0 + t3) * -7373, (t1 + t2) * -20995);
    let (z3, z4) = ((t0 + t2) * -16069 + z5, (t1 + t3) * -3196 + z5);
    let odd = [t3 * 12299 + z1 + z4, t2 * 25172 + z2 + z3, t1 * 16819 + z2 + z4, t0 * 2446 + z1 + z3];

    let round = |v: i64| (v + (1 << (shift - 1))) >> shift;
    std::array::from_fn(|i| if i < 4 { round(even[i] + odd[i]) } else { round(even[7 - i] - odd[7 - i]) })
}
