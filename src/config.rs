//! Settings as they are written down: of a model, and of where to listen; sizes and ratios. Their meaning is derived where they are used.

mod device;
pub mod document;
mod folders;
mod isolation;
mod model;
mod model_control;
pub mod provider_options;
mod queue_time;
mod ratio;
mod ready_when;
mod size;

pub use device::{Device, OtherProvider};
pub use folders::Folders;
pub use isolation::Isolation;
pub use model::{Batching, InPlace, ModelConfig, PriorityLimit, PriorityLimits, Versions};
pub use model_control::ModelControl;
pub use queue_time::QueueTime;
pub use ratio::Ratio;
pub use ready_when::ReadyWhen;
pub use size::{ByteSize, rounded};

use std::{fmt, str::FromStr};

/// Where a listener binds: `host:port` (port 0 picks a free one) or `off`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Nothing listens.
    Off,
    /// This host and port.
    At(String),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Listen::Off);
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(Listen::At(text.into())),
            _ => Err(format!(
                "'{text}' is not an address: give HOST:PORT such as 0.0.0.0:8000 or [::]:8000 (port 0 picks a free one), or 'off'"
            )),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Off => f.write_str("off"),
            Listen::At(address) => f.write_str(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_address_parses_or_reports_the_form() {
        assert_eq!("off".parse(), Ok(Listen::Off));
        for address in ["localhost:0", "[::1]:80", "0.0.0.0:8000"] {
            assert_eq!(address.parse(), Ok(Listen::At(address.into())));
        }
        for wrong in ["8000", ":8000", "host:", "host:99999", ""] {
            assert!(wrong.parse::<Listen>().unwrap_err().contains("is not an address"), "{wrong}");
        }
    }
}
