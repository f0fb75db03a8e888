//! Settings of a model and of where to listen, as they are written down. Their meaning is derived where they are used.

use serde::Deserialize;
use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

/// Settings of one model: `config.toml` in its folder. Every key is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Names for versions. `stable` names the version that requests without a version go to; without it they go to the
    /// highest version that is ready.
    pub aliases: BTreeMap<String, u64>,
    /// Whether requests are joined into batches.
    pub batching: Batching,
    /// Rows that a batch holds at most. Default 64.
    pub max_batch_size: Option<usize>,
    /// How long a request may wait for others to join it while an instance is free, such as "2ms". Default: not at all.
    #[serde(deserialize_with = "duration")]
    pub max_queue_delay: Option<Duration>,
    /// Requests that wait at most; one more is refused. Default 1024.
    pub max_queue_size: Option<usize>,
    /// ONNX Runtime sessions of each version, which run at once. Default 1.
    pub instances: Option<usize>,
    /// Threads that one run uses, at most one per CPU. Default: 1 for models that answer one row within a millisecond, else
    /// every CPU.
    pub intra_op_threads: Option<usize>,
}

/// Whether a model's requests are joined into batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Batching {
    /// Where the signature says that axis 0 is the batch and a probe shows that rows don't influence each other.
    #[default]
    Auto,
    /// Axis 0 is the batch, whatever the dimensions are called. The probe still has the last word.
    On,
    /// Every request runs alone.
    Off,
}

/// Longer makes no sense, and far longer is more than a clock can count.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 3600);

/// The alias of the version that requests without a version go to.
pub const STABLE: &str = "stable";

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = humantime::parse_duration(&text);
    parsed
        .map(Some)
        .map_err(|error| serde::de::Error::custom(format!("'{text}' is not a duration such as \"2ms\": {error}")))
}

impl ModelConfig {
    /// The settings that `text`, the contents of a `config.toml`, holds.
    ///
    /// # Errors
    /// For people: line, key, what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: ModelConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        let positive = [
            ("max_batch_size", config.max_batch_size),
            ("max_queue_size", config.max_queue_size),
            ("instances", config.instances),
            ("intra_op_threads", config.intra_op_threads),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == Some(0)) {
            return Err(format!("{key} must be at least 1, got 0"));
        }
        if let Some(delay) = config.max_queue_delay.filter(|delay| *delay > LONGEST_DELAY) {
            return Err(format!("max_queue_delay must be at most 1 day, got {}", humantime::format_duration(delay)));
        }
        if let Some((alias, _)) = config.aliases.iter().find(|(_, version)| **version == 0) {
            return Err(format!("alias '{alias}' must point to a version, which is at least 1, got 0"));
        }
        Ok(config)
    }

    /// The settings that a version is loaded with: all but the aliases. Where they change, versions are loaded anew.
    pub fn without_aliases(&self) -> ModelConfig {
        ModelConfig { aliases: BTreeMap::new(), ..self.clone() }
    }
}

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
    fn model_config_reads_every_key() {
        let text = r#"
            batching = "off"
            max_batch_size = 8
            max_queue_delay = "2ms"
            max_queue_size = 9
            instances = 2
            intra_op_threads = 3
            [aliases]
            stable = 2
        "#;
        let expected = ModelConfig {
            aliases: BTreeMap::from([("stable".into(), 2)]),
            batching: Batching::Off,
            max_batch_size: Some(8),
            max_queue_delay: Some(Duration::from_millis(2)),
            max_queue_size: Some(9),
            instances: Some(2),
            intra_op_threads: Some(3),
        };
        assert_eq!(ModelConfig::parse(text), Ok(expected));
    }

    #[test]
    fn model_config_errors_name_the_key() {
        for (text, expected) in [
            ("max_batch_sise = 8", "max_batch_sise"),
            ("max_batch_size = 0", "max_batch_size"),
            ("max_batch_size = -1", "max_batch_size"),
            ("max_queue_delay = \"fast\"", "'fast' is not a duration"),
            ("max_queue_delay = \"400000000years\"", "max_queue_delay must be at most 1 day"),
            ("batching = \"maybe\"", "maybe"),
            ("[aliases]\nstable = 0", "'stable'"),
        ] {
            let error = ModelConfig::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn listen_addresses() {
        assert_eq!("off".parse(), Ok(Listen::Off));
        for address in ["localhost:0", "[::1]:80", "0.0.0.0:8000"] {
            assert_eq!(address.parse(), Ok(Listen::At(address.into())));
        }
        for wrong in ["8000", ":8000", "host:", "host:99999", ""] {
            assert!(wrong.parse::<Listen>().unwrap_err().contains("is not an address"), "{wrong}");
        }
    }
}
