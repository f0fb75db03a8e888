use std::{fmt, str::FromStr, time::Duration};

/// Longest time for which a request may wait in the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QueueTime {
    /// In relation to the measured time of runs.
    #[default]
    Auto,
    /// As long as the client wants.
    Unlimited,
    /// So long.
    AtMost(Duration),
}

/// A longer limit is a mistake.
const MAX: Duration = Duration::from_secs(24 * 3600);

impl FromStr for QueueTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(QueueTime::Auto),
            "none" => Ok(QueueTime::Unlimited),
            _ => match humantime::parse_duration(text) {
                Ok(Duration::ZERO) => Ok(QueueTime::Unlimited),
                Ok(limit) if limit <= MAX => Ok(QueueTime::AtMost(limit)),
                Ok(_) => Err("at most 1 day".into()),
                Err(_) => Err("\"auto\", \"none\" or a duration such as \"500ms\"".into()),
            },
        }
    }
}

impl fmt::Display for QueueTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueueTime::Auto => f.write_str("auto"),
            QueueTime::Unlimited => f.write_str("none"),
            QueueTime::AtMost(limit) => humantime::format_duration(*limit).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_time_is_read_as_it_is_written() {
        for (text, time) in [
            ("auto", QueueTime::Auto),
            ("none", QueueTime::Unlimited),
            ("250ms", QueueTime::AtMost(Duration::from_millis(250))),
        ] {
            assert_eq!(text.parse(), Ok(time));
            assert_eq!(time.to_string(), text);
        }
        assert_eq!("0s".parse(), Ok(QueueTime::Unlimited));
        for wrong in ["", "5", "-1s", "soon", "25h"] {
            assert!(wrong.parse::<QueueTime>().is_err(), "{wrong}");
        }
    }
}
