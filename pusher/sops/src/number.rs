//! Doubles as Go prints them: by yaml's `%g` and by encoding/json.

/// A finite double in scientific notation.
struct Decimal {
    negative: bool,
    /// The fewest digits that say it.
    digits: String,
    /// The power of ten of the first digit.
    exponent: i32,
}

impl Decimal {
    fn of(number: f64) -> Self {
        let scientific = format!("{:e}", number.abs());
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        Self {
            negative: number.is_sign_negative(),
            digits: mantissa.replace('.', ""),
            exponent: exponent.parse().unwrap_or_default(),
        }
    }

    /// Writes `d.ddde±xx`, the exponent with at least `width` digits.
    fn scientific(&self, width: usize) -> String {
        let sign = if self.negative { "-" } else { "" };
        let (first, rest) = self.digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        let direction = if self.exponent < 0 { '-' } else { '+' };
        let exponent = self.exponent.unsigned_abs();
        format!("{sign}{first}{dot}{rest}e{direction}{exponent:0width$}")
    }
}

/// Returns `number` as Go's yaml prints it.
pub(crate) fn yaml(number: f64) -> String {
    if number.is_nan() {
        return ".nan".to_owned();
    }
    if number.is_infinite() {
        let sign = if number < 0.0 { "-" } else { "" };
        return format!("{sign}.inf");
    }
    let decimal = Decimal::of(number);
    if decimal.exponent < -4 || decimal.exponent >= 6 {
        decimal.scientific(2)
    } else {
        number.to_string()
    }
}

/// Returns `number` as Go's encoding/json prints it; it has no infinities.
pub(crate) fn json(number: f64) -> Option<String> {
    if !number.is_finite() {
        return None;
    }
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        Some(Decimal::of(number).scientific(1))
    } else {
        Some(number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_look_as_in_go() {
        for (number, in_yaml, in_json) in [
            (1.5, "1.5", "1.5"),
            (100_000.0, "100000", "100000"),
            (1e6, "1e+06", "1000000"),
            (123_456_789.5, "1.234567895e+08", "123456789.5"),
            (1e20, "1e+20", "100000000000000000000"),
            (-1e21, "-1e+21", "-1e+21"),
            (0.0001, "0.0001", "0.0001"),
            (0.000_001, "1e-06", "0.000001"),
            (1e-7, "1e-07", "1e-7"),
            (1.5e-300, "1.5e-300", "1.5e-300"),
            (0.0, "0", "0"),
            (-0.0, "-0", "-0"),
        ] {
            assert_eq!(yaml(number), in_yaml);
            assert_eq!(json(number).unwrap(), in_json);
        }
        assert_eq!(yaml(f64::NEG_INFINITY), "-.inf");
        assert_eq!(yaml(f64::NAN), ".nan");
        assert_eq!(json(f64::INFINITY), None);
    }
}
