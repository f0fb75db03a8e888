//! Readiness of the server by the versions that are ready.

use std::collections::BTreeMap;

use crate::config::ReadyWhen;

/// Facts of a table that decide whether the server is ready.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// True if the repository has been read, so that it is known which models should serve.
    pub is_known: bool,
    /// Number of models that have a READY version.
    pub ready: usize,
    /// Models that should serve and have no READY version, with the reasons that every client may read.
    pub lacking: BTreeMap<String, String>,
}

impl Readiness {
    /// Reason why the server is not ready, for people; `None` where it is.
    pub fn not_ready(&self, when: ReadyWhen) -> Option<String> {
        match when {
            ReadyWhen::Started => None,
            _ if !self.is_known => Some("the model repository has not been read; the server's log says why".into()),
            ReadyWhen::Any if self.ready == 0 => Some(match self.lacking() {
                Some(lacking) => format!("no model has a version that is READY: {lacking}"),
                None => "no model has a version that is READY".into(),
            }),
            ReadyWhen::Any => None,
            ReadyWhen::All => self.lacking(),
        }
    }

    /// The first model that lacks a READY version, and how many more do.
    fn lacking(&self) -> Option<String> {
        let (model, why) = self.lacking.first_key_value()?;
        let others = match self.lacking.len() - 1 {
            0 => String::new(),
            1 => ", nor has 1 more model".into(),
            more => format!(", nor have {more} more models"),
        };
        Some(format!("model '{model}' has no version that is READY ({why}){others}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readiness(ready: usize, lacking: &[&str]) -> Readiness {
        let lacking = lacking.iter().map(|name| ((*name).to_owned(), "version 1 failed to load".to_owned())).collect();
        Readiness { is_known: true, ready, lacking }
    }

    #[test]
    fn readiness_follows_the_rule() {
        for (facts, any, all) in [
            (readiness(0, &[]), false, true),
            (readiness(1, &[]), true, true),
            (readiness(1, &["a"]), true, false),
            (readiness(0, &["a", "b", "c"]), false, false),
            (Readiness::default(), false, false),
        ] {
            assert_eq!(facts.not_ready(ReadyWhen::Any).is_none(), any, "{facts:?}");
            assert_eq!(facts.not_ready(ReadyWhen::All).is_none(), all, "{facts:?}");
            assert_eq!(facts.not_ready(ReadyWhen::Started), None);
        }
        let why = readiness(0, &["a", "b", "c"]).not_ready(ReadyWhen::All).unwrap();
        assert_eq!(why, "model 'a' has no version that is READY (version 1 failed to load), nor have 2 more models");
    }
}
