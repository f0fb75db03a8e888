//! The version that a request would get, for people.

use super::{table::Table, ticket::Ticket};
use crate::{
    error::Result,
    traffic::{Reason, Selector},
};

/// Version that a request would get, and the reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The version; `None`: chance decides, by the shares.
    pub version: Option<u64>,
    /// Why.
    pub reason: Reason,
    /// Every version with the part of the requests without a version that it gets now, lowest first.
    pub shares: Vec<(u64, f64)>,
}

impl Table {
    /// The version that a request with or without a routing key would get.
    ///
    /// # Errors
    /// As [`Table::pick`].
    pub fn explain(&self, model: &str, selector: &Selector, key: Option<&[u8]>) -> Result<Explanation> {
        let entry = self.model(model)?;
        let shares = entry.versions().keys().map(|version| (*version, entry.share(*version))).collect();
        let ticket = Ticket { key, ..Ticket::default() };
        let (version, reason) = self.pick(model, selector, &ticket)?;
        let by_chance = reason == Reason::Weighted && entry.is_divided();
        Ok(Explanation { version: (!by_chance).then_some(version.version), reason, shares })
    }
}
