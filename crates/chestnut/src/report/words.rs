//! Numbers in words, the same on every part of the page.

use crate::evaluate::table::{decimal, range};

/// `number` with its noun in the right form.
pub(super) fn several(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `0.31 s`, `42 s`, `1 min 18 s`, `2 h 05 min`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..10 => format!("{seconds:.2} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `.79–.90`.
pub(super) fn span(bounds: [f64; 2]) -> String {
    range(bounds, "\u{2013}")
}

/// A difference with its sign: `+.03`, `−.12`, `.00`.
pub(super) fn signed(value: f64) -> String {
    let text = decimal(value.abs());
    if text == ".00" {
        return text;
    }
    format!("{}{text}", if value < 0.0 { "\u{2212}" } else { "+" })
}

/// `−.02 to +.08`.
pub(super) fn signed_span(bounds: [f64; 2]) -> String {
    format!("{} to {}", signed(bounds[0]), signed(bounds[1]))
}

/// A p value as journals print it: `<.001`, `.012`, `.45`.
pub(super) fn p_value(p: f64) -> String {
    let short = |text: String| text.strip_prefix('0').map(str::to_owned).unwrap_or(text);
    match p {
        p if p < 0.001 => "<.001".to_owned(),
        p if p < 0.1 => short(format!("{p:.3}")),
        p => short(format!("{p:.2}")),
    }
}

/// `F 12, M 9`; `none` for nothing.
pub(super) fn counts(values: &[(String, usize)]) -> String {
    if values.is_empty() {
        return "none".to_owned();
    }
    values.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!([0.314, 42.4, 78.4, 7_500.0].map(duration), ["0.31 s", "42 s", "1 min 18 s", "2 h 05 min"]);
    }

    #[test]
    fn signs_and_p_values() {
        assert_eq!([0.031, -0.12, -0.001].map(signed), ["+.03", "\u{2212}.12", ".00"]);
        assert_eq!([0.000_4, 0.012_3, 0.456, 1.0].map(p_value), ["<.001", ".012", ".46", "1.00"]);
        assert_eq!((several(1, "label"), several(0, "label")), ("1 label".to_owned(), "0 labels".to_owned()));
    }
}
