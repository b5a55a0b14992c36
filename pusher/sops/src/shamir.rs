//! Combines Shamir shares as Vault's scheme has them, which sops took over.
//!
//! A share is the values of one polynomial per byte of the secret, and as last byte the point `x` they were taken at.
//! The field is GF(2^8) modulo x^8 + x^4 + x^3 + x + 1; the secret is at 0. Nothing here branches or indexes by a
//! secret byte.

use zeroize::Zeroizing;

/// Combines shares into the secret, or returns what is wrong with them.
pub(crate) fn combine(shares: &[Zeroizing<Vec<u8>>]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    let mut points = Vec::with_capacity(shares.len());
    for share in shares {
        let (x, values) = share.split_last().ok_or("an empty share")?;
        if *x == 0 || points.iter().any(|(other, _)| other == x) {
            return Err("two shares of one point");
        }
        points.push((*x, values));
    }
    let length = points.first().map_or(0, |(_, values)| values.len());
    if points.iter().any(|(_, values)| values.len() != length) {
        return Err("shares of different lengths");
    }
    let mut secret = Zeroizing::new(vec![0; length]);
    for (x, values) in &points {
        let weight = weight(*x, points.iter().map(|(other, _)| *other));
        for (byte, value) in secret.iter_mut().zip(*values) {
            *byte ^= multiply(*value, weight);
        }
    }
    Ok(secret)
}

/// Returns the value at 0 of the Lagrange polynomial that is 1 at `x` and 0 at the other points.
fn weight(x: u8, points: impl Iterator<Item = u8>) -> u8 {
    points.filter(|other| *other != x).fold(1, |weight, other| {
        multiply(weight, multiply(other, inverse(x ^ other)))
    })
}

/// Returns 1/a as a^254.
fn inverse(a: u8) -> u8 {
    let mut power = 1;
    for _ in 0..7 {
        // The exponents are 1, 3, 7 … 127.
        power = multiply(multiply(power, power), a);
    }
    multiply(power, power)
}

fn multiply(a: u8, b: u8) -> u8 {
    (0..8).rev().fold(0_u8, |product, bit| {
        let reduced = (product << 1) ^ ((product >> 7).wrapping_neg() & 0x1b);
        reduced ^ (((b >> bit) & 1).wrapping_neg() & a)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The polynomials 2a + 7x + 63x² and 0 + ffx + x², at x.
    fn share(x: u8) -> Zeroizing<Vec<u8>> {
        let square = multiply(x, x);
        Zeroizing::new(vec![
            0x2a ^ multiply(0x07, x) ^ multiply(0x63, square),
            multiply(0xff, x) ^ square,
            x,
        ])
    }

    #[test]
    fn every_nonzero_element_has_an_inverse() {
        for a in 1..=255 {
            assert_eq!(multiply(a, inverse(a)), 1, "{a}");
        }
        // From FIPS 197, section 4.2.
        assert_eq!(multiply(0x57, 0x83), 0xc1);
    }

    #[test]
    fn enough_shares_give_the_secret_whichever_they_are() {
        for points in [[1, 2, 3], [3, 1, 200], [255, 254, 17]] {
            let secret = combine(&points.map(share)).unwrap();
            assert_eq!(*secret, [0x2a, 0], "{points:?}");
        }
        let too_few = combine(&[share(1), share(2)]).unwrap();
        assert_ne!(*too_few, [0x2a, 0]);
    }

    #[test]
    fn shares_that_do_not_fit_together_are_refused() {
        let short = Zeroizing::new(vec![1, 2]);
        let zero = Zeroizing::new(vec![1, 2, 0]);
        for bad in [
            vec![share(1), share(1)],
            vec![share(1), short],
            vec![zero, share(1)],
            vec![Zeroizing::new(vec![])],
        ] {
            assert!(combine(&bad).is_err());
        }
    }
}
