//! COCO run lengths: pixels column by column, first those outside, then those inside, in turns.
//!
//! Counts are a list of numbers, or text with six bits per character: five of the number, the lowest group first, and
//! one that says that more follow; the highest bit of the last group is the sign. From the fourth count on the text
//! holds the difference to the count two before. Written from the format's definition (cocodataset.org, mask API).

/// Characters of one count; more would not fit any image.
const MAX_GROUPS: u32 = 8;
/// Character of the value 0.
const ZERO: u8 = 48;

/// Decodes counts as text; gives `[row][column]`.
///
/// # Errors
/// What is wrong, in words: a character that is not of the format, or counts that do not cover the mask exactly.
pub(super) fn decode_text(text: &str, width: usize, height: usize) -> Result<Vec<bool>, String> {
    let mut painter = Painter::new(width, height);
    let mut before = [0i64; 2];
    let mut number = 0usize;
    let (mut value, mut groups) = (0i64, 0u32);
    for &byte in text.as_bytes() {
        let six = byte.checked_sub(ZERO).filter(|six| *six < 64);
        let six =
            i64::from(six.ok_or_else(|| format!("{:?} is no character of COCO's run lengths", char::from(byte)))?);
        if groups == MAX_GROUPS {
            return Err(format!("count number {} has more digits than any image needs", number + 1));
        }
        value |= (six & 31) << (5 * groups);
        groups += 1;
        if six & 32 != 0 {
            continue;
        }
        if six & 16 != 0 {
            value |= -1 << (5 * groups);
        }
        if number > 2 {
            value += before[0];
        }
        painter.paint(usize::try_from(value).map_err(|_| format!("count number {} is negative", number + 1))?)?;
        before = [before[1], value];
        number += 1;
        (value, groups) = (0, 0);
    }
    if groups > 0 {
        return Err("the text ends within a count; was it shortened?".to_owned());
    }
    painter.finish()
}

/// Decodes counts as numbers; gives `[row][column]`.
///
/// # Errors
/// As [`decode_text`].
pub(super) fn decode_counts(
    counts: impl IntoIterator<Item = Option<u64>>,
    width: usize,
    height: usize,
) -> Result<Vec<bool>, String> {
    let mut painter = Painter::new(width, height);
    for (number, count) in counts.into_iter().enumerate() {
        let count = count.and_then(|count| usize::try_from(count).ok());
        painter.paint(count.ok_or_else(|| format!("count number {} is not a whole number from 0", number + 1))?)?;
    }
    painter.finish()
}

/// Fills a mask column by column.
struct Painter {
    width: usize,
    height: usize,
    inside: Vec<bool>,
    /// Pixels painted so far, counted column by column.
    at: usize,
    is_inside: bool,
}

impl Painter {
    fn new(width: usize, height: usize) -> Self {
        Self { width, height, inside: vec![false; width * height], at: 0, is_inside: false }
    }

    fn paint(&mut self, count: usize) -> Result<(), String> {
        if count > self.inside.len() - self.at {
            return Err(format!("the counts cover more than the {} x {} pixels", self.width, self.height));
        }
        if self.is_inside {
            for at in self.at..self.at + count {
                self.inside[at % self.height * self.width + at / self.height] = true;
            }
        }
        self.at += count;
        self.is_inside = !self.is_inside;
        Ok(())
    }

    fn finish(self) -> Result<Vec<bool>, String> {
        if self.at == self.inside.len() {
            return Ok(self.inside);
        }
        Err(format!("the counts cover {} of the {} pixels; was the text shortened?", self.at, self.inside.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_stats::random::Stream;

    /// Counts of a mask `[row][column]`, column by column.
    fn counts(inside: &[bool], width: usize, height: usize) -> Vec<u64> {
        let mut counts = vec![0];
        let mut current = false;
        for at in 0..width * height {
            let value = inside[at % height * width + at / height];
            if value != current {
                counts.push(0);
                current = value;
            }
            *counts.last_mut().expect("never empty") += 1;
        }
        counts
    }

    fn text(counts: &[u64]) -> String {
        let mut text = String::new();
        for (i, &count) in counts.iter().enumerate() {
            let mut rest = count as i64 - if i > 2 { counts[i - 2] as i64 } else { 0 };
            loop {
                let group = (rest & 31) as u8;
                rest >>= 5;
                let is_last = rest == if group & 16 != 0 { -1 } else { 0 };
                text.push(char::from(ZERO + group + if is_last { 0 } else { 32 }));
                if is_last {
                    break;
                }
            }
        }
        text
    }

    /// Texts made by pycocotools 2.0.
    #[test]
    fn texts_of_the_reference_are_read() {
        let square = decode_text("42102", 4, 3).expect("a mask");
        assert_eq!(square.iter().map(|&v| u8::from(v)).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0]);
        assert_eq!(decode_text("06", 3, 2), Ok(vec![true; 6]));
        assert_eq!(decode_text("6", 3, 2), Ok(vec![false; 6]));
        // Five pixels far apart: long runs and negative differences.
        let far = decode_text("]61`c02W3N`ZO", 40, 40).expect("a mask");
        let at: Vec<(usize, usize)> = (0..1600).filter(|&i| far[i]).map(|i| (i / 40, i % 40)).collect();
        assert_eq!(at, [(0, 39), (5, 5), (30, 20), (31, 20), (32, 20)]);
        let ellipse = "RP21m2<G6K4L4M2N2N2M4N0O2N2N2N2O0O2N2O0O2O000O2O0O2O000O2O00000O2O00000000000000000O20N10000000\
                       0000\
                       0000001N1000001N10001N101N10001N101N2N101N2N2N2N102L3N2N2N3L4L5J9DPj1";
        let ellipse = decode_text(ellipse, 120, 100).expect("a mask");
        let inside = |i: usize| {
            let (x, y) = ((i % 120) as f64, (i / 120) as f64);
            ((y - 50.0) / 30.0).powi(2) + ((x - 60.0) / 40.0).powi(2) <= 1.0
        };
        assert!((0..12_000).all(|i| ellipse[i] == inside(i)));
    }

    #[test]
    fn every_mask_comes_back() {
        let mut draw = Stream::keyed(1, "rle");
        for _ in 0..100 {
            let (width, height) = (1 + draw.below(40), 1 + draw.below(40));
            let mut value = false;
            let mask: Vec<bool> = (0..width * height)
                .map(|_| {
                    value ^= draw.uniform() < 0.05;
                    value
                })
                .collect();
            let counts = counts(&mask, width, height);
            assert_eq!(decode_text(&text(&counts), width, height).as_ref(), Ok(&mask));
            assert_eq!(decode_counts(counts.into_iter().map(Some), width, height), Ok(mask));
        }
    }

    #[test]
    fn damage_is_named() {
        for (bad, word) in [("4210", "cover"), ("421029", "more than"), ("42\u{e9}", "character"), ("P", "within")] {
            assert!(decode_text(bad, 4, 3).expect_err(bad).contains(word), "{bad}");
        }
        assert!(
            decode_text("oooooooooooo", 4, 3).is_err() && decode_text("O", 4, 3).expect_err("-1").contains("negative")
        );
        assert!(decode_counts([Some(4), None], 4, 3).is_err());
        assert!(decode_counts([Some(u64::MAX), Some(4)], 4, 3).is_err());
    }
}
