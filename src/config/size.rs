use std::{fmt, str::FromStr};

/// A number of bytes, such as `64KiB`, `256MiB`, `2GiB`, or just `1000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub usize);

const UNITS: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unit = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
        let (digits, size) = unit.unwrap_or((text, 1));
        let number = digits.trim_end().parse::<usize>().ok().and_then(|number| number.checked_mul(size));
        let wrong =
            || format!("'{text}' is not a size: give bytes, or a whole number with KiB, MiB or GiB, such as 64MiB");
        // A plus sign would parse.
        number.filter(|_| digits.starts_with(|first: char| first.is_ascii_digit())).map(ByteSize).ok_or_else(wrong)
    }
}

/// In the largest unit that gives a whole number.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |size: usize| self.0 > 0 && self.0.is_multiple_of(size);
        match UNITS.iter().find(|(_, size)| *size > 1 && fits(*size)) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

/// A number of bytes for people, who want no more than a place behind the point: in the largest unit that it reaches.
pub fn rounded(bytes: u64) -> String {
    let reached = UNITS.iter().find(|(_, size)| *size > 1 && bytes >= *size as u64);
    match reached {
        Some((unit, size)) => format!("{:.1} {unit}", bytes as f64 / *size as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes, shown) in [
            ("0", 0, "0 bytes"),
            ("1000", 1000, "1000 bytes"),
            ("1000B", 1000, "1000 bytes"),
            ("64KiB", 65_536, "64KiB"),
            ("1024 KiB", 1 << 20, "1MiB"),
            ("3GiB", 3 << 30, "3GiB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown), "{text}");
        }
        for wrong in ["", "B", "-1", "+1", "1.5GiB", "1TB", "1 kib", "99999999999GiB"] {
            assert!(wrong.parse::<ByteSize>().unwrap_err().contains("is not a size"), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_rounded_for_people() {
        for (bytes, shown) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (20_166_148, "19.2 MiB"),
            (8 << 30, "8.0 GiB"),
            (u64::MAX, "17179869184.0 GiB"),
        ] {
            assert_eq!(rounded(bytes), shown);
        }
    }
}
