use std::{fmt, str::FromStr};

/// A part of a whole: from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Ratio(f64);

/// It is no NaN.
impl Eq for Ratio {}

impl Ratio {
    /// True for this part of all calls: `random` gives numbers below 1, each as likely as the others.
    pub fn takes(self, random: impl FnOnce() -> f64) -> bool {
        // All and none are exact, and leave nothing to chance.
        self.0 >= 1.0 || self.0 > 0.0 && random() < self.0
    }
}

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.map(Ratio).ok_or_else(|| format!("'{text}' is not a ratio: give a number from 0 to 1, such as 0.01"))
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_parses_and_takes_its_share() {
        let takes = |text: &str, random: f64| text.parse::<Ratio>().unwrap().takes(|| random);
        assert!(takes("1", 0.999_999) && takes("0.25", 0.249) && takes("1e-3", 0.0));
        assert!(!takes("0", 0.0) && !takes("0.25", 0.25));
        for wrong in ["", "-0.1", "1.1", "NaN", "inf", "1%", "a"] {
            assert!(wrong.parse::<Ratio>().unwrap_err().contains("is not a ratio"), "{wrong}");
        }
    }
}
