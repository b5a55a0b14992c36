//! Text from the other side, made safe for a terminal or a log.

use std::fmt::Write as _;

/// Returns `text` with every control and direction character escaped, cut after `longest` characters.
///
/// Escaped are C0, DEL, C1, and the bidirectional controls that can make a line read backwards.
#[must_use]
pub fn printable(text: &str, longest: usize) -> String {
    let mut out = String::with_capacity(text.len().min(longest));
    for (count, c) in text.chars().enumerate() {
        if count == longest {
            out.push('…');
            break;
        }
        if c.is_control() || is_direction(c) {
            let _infallible = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

fn is_direction(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_lose_their_power_and_length_is_bounded() {
        assert_eq!(printable("a\x1b]52;c;x\x07b", 80), "a\\u{1b}]52;c;x\\u{7}b");
        assert_eq!(
            printable("\u{202e}evil\u{9b}31m", 80),
            "\\u{202e}evil\\u{9b}31m"
        );
        assert_eq!(printable(&"x".repeat(100), 3), "xxx…");
        assert_eq!(printable("grün", 80), "grün");
    }
}
