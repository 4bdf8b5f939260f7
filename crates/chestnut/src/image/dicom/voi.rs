//! Tables and windows of a header (PS3.3, C.11.1 and C.11.2): Modality LUT, VOI LUT, and the three window functions.
//!
//! A window gives 0 to 2^bits - 1, bright where the value is high; whether that is shown black is MONOCHROME1's to say
//! and not this file's. Only the first table or window is used: further ones are alternatives for a reader to choose.

use super::elements::Elements;
use super::facts::{numbers, text};
use super::{bad_header, tag};
use crate::image::ImageError;

/// A lookup table: entry `i` is for the value `first + i`; values outside take the nearest entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    first: i32,
    entries: Vec<u16>,
    /// Bits that the entries use.
    pub(super) bits: u32,
}

impl Table {
    /// The table in an item of a Modality LUT or VOI LUT Sequence.
    ///
    /// # Errors
    /// [`ImageError::BadHeader`] if descriptor and data are absent or disagree.
    pub(super) fn of(item: &Elements<'_>, signed: bool) -> Result<Self, ImageError> {
        let descriptor = item.values.get(&tag::LUT_DESCRIPTOR).copied().unwrap_or_default();
        let [a, b, c, d, e, f, ..] = *descriptor else {
            return Err(bad_header("a lookup table without LUTDescriptor"));
        };
        let number = |b: [u8; 2]| item.encoding.u16(b);
        let count = match number([a, b]) {
            // 65536 does not fit.
            0 => 65_536,
            count => usize::from(count),
        };
        let first = number([c, d]);
        let first = if signed { i32::from(first as i16) } else { i32::from(first) };
        let data = item.values.get(&tag::LUT_DATA).copied().unwrap_or_default();
        let entries: Vec<u16> = if data.len() >= 2 * count {
            data[..2 * count].chunks_exact(2).map(|b| number([b[0], b[1]])).collect()
        } else if data.len() >= count {
            data[..count].iter().map(|&b| u16::from(b)).collect()
        } else {
            return Err(bad_header(&format!("a lookup table of {count} entries in {} bytes", data.len())));
        };
        // Some writers state 8 bits above 12-bit entries.
        let needed = 16 - entries.iter().copied().max().unwrap_or(0).leading_zeros();
        let bits = u32::from(number([e, f])).clamp(1, 16).max(needed);
        Ok(Self { first, entries, bits })
    }

    /// The entry for a value.
    pub(super) fn at(&self, value: f64) -> f64 {
        let index = (value - f64::from(self.first)).round().clamp(0.0, (self.entries.len() - 1) as f64);
        f64::from(self.entries[index as usize])
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        format!("{} entries of {} bits, from {} on", self.entries.len(), self.bits, self.first)
    }
}

/// How a window maps values (VOILUTFunction, PS3.3, C.11.2.1.2 and C.11.2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    /// Between the centres of the first and the last pixel value of the window.
    Linear,
    /// Between its edges.
    LinearExact,
    /// A logistic curve.
    Sigmoid,
}

/// A display transform of a header.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Transform {
    /// Centre, width and function of a window.
    Window(f64, f64, Function),
    /// A table.
    Table(Table),
}

impl Transform {
    /// The first window; `None` if there is none, or its width or function is not one.
    pub(super) fn window(elements: &Elements<'_>) -> Option<Self> {
        let centre = *numbers(elements, tag::WINDOW_CENTER).first()?;
        let width = *numbers(elements, tag::WINDOW_WIDTH).first()?;
        let (function, least) = match text(elements, tag::VOI_FUNCTION).as_deref() {
            None | Some("LINEAR") => (Function::Linear, 1.0),
            Some("LINEAR_EXACT") => (Function::LinearExact, f64::MIN_POSITIVE),
            Some("SIGMOID") => (Function::Sigmoid, f64::MIN_POSITIVE),
            Some(_) => return None,
        };
        (width >= least).then_some(Self::Window(centre, width, function))
    }

    /// The first table; `signed` says that the values it is for can be negative.
    ///
    /// # Errors
    /// [`ImageError::BadHeader`] if there is a table that cannot be right.
    pub(super) fn table(elements: &Elements<'_>, signed: bool) -> Result<Option<Self>, ImageError> {
        let item = elements.first_item(tag::VOI_LUT)?;
        item.map(|item| Table::of(&item, signed).map(Self::Table)).transpose()
    }

    /// Bits of the result where the transform brings its own.
    pub(super) fn bits(&self) -> Option<u32> {
        match self {
            Self::Window(..) => None,
            Self::Table(table) => Some(table.bits),
        }
    }

    /// Maps every value to 0..2^bits - 1.
    pub(super) fn apply(&self, values: &mut [f32], bits: u32) {
        let full = f64::from((1_u32 << bits.min(16)) - 1);
        let shown = |v: f64| match self {
            Self::Table(table) => table.at(v),
            Self::Window(centre, width, function) => full * windowed(v, *centre, *width, *function),
        };
        values.iter_mut().for_each(|v| *v = shown(f64::from(*v)) as f32);
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Table(table) => format!("VOI table, {}", table.describe()),
            Self::Window(centre, width, function) => {
                let function = match function {
                    Function::Linear => "LINEAR",
                    Function::LinearExact => "LINEAR_EXACT",
                    Function::Sigmoid => "SIGMOID",
                };
                format!("centre {centre}, width {width}, {function}")
            }
        }
    }
}

/// A value through a window, 0 to 1.
fn windowed(v: f64, centre: f64, width: f64, function: Function) -> f64 {
    match function {
        Function::Sigmoid => 1.0 / (1.0 + (-4.0 * (v - centre) / width).exp()),
        // A width of 1 is a threshold; the standard's formula has no value between.
        Function::Linear if width <= 1.0 => f64::from(u8::from(v > centre - 0.5)),
        Function::Linear => ((v - (centre - 0.5)) / (width - 1.0) + 0.5).clamp(0.0, 1.0),
        Function::LinearExact => ((v - centre) / width + 0.5).clamp(0.0, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_the_standards_formulae() {
        let at = |v, function| windowed(v, 2048.0, 4096.0, function);
        // PS3.3, C.11.2.1.2.1: c = 2048, w = 4096 shows 0 black and 4095 white.
        assert_eq!((at(0.0, Function::Linear), at(4095.0, Function::Linear)), (0.0, 1.0));
        assert_eq!((at(0.0, Function::LinearExact), at(4096.0, Function::LinearExact)), (0.0, 1.0));
        assert!(at(4095.0, Function::LinearExact) < 1.0);
        assert_eq!(at(2048.0, Function::Sigmoid), 0.5);
        // And with w = 1 what lies above c - 0.5 is white.
        assert_eq!(windowed(2047.5, 2048.0, 1.0, Function::Linear), 0.0);
        assert_eq!(windowed(2047.6, 2048.0, 1.0, Function::Linear), 1.0);
    }

    #[test]
    fn values_beside_a_table_take_its_ends() {
        let table = Table { first: -2, entries: vec![5, 7, 11], bits: 4 };
        assert_eq!([-9.0, -2.0, -1.0, 0.0, 99.0].map(|v| table.at(v)), [5.0, 5.0, 7.0, 11.0, 11.0]);
    }
}
