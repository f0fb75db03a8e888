//! Changes and traffic in the words of people.

use std::fmt::{Display, Formatter, Result};

use super::{Change, Record};
use crate::traffic::Traffic;

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let all = |f: &mut Formatter<'_>, what: &str, version: &Option<u64>| match version {
            Some(version) => write!(f, "{what} version {version}"),
            None => write!(f, "{what} all versions"),
        };
        match self {
            Change::Load(version) => all(f, "load", version),
            Change::Unload(version) => all(f, "unload", version),
            Change::ForceUnload(version) => {
                all(f, "unload", version)?;
                f.write_str(" by force")
            }
            Change::Reload(version) => all(f, "reload", version),
            Change::SetWeights(weights) if weights.is_empty() => f.write_str("set no weights"),
            Change::SetWeights(weights) => {
                f.write_str("set weights")?;
                weights.iter().try_for_each(|(version, weight)| write!(f, " {version}={weight}"))
            }
            Change::Shift { from, to, points } => write!(f, "shift {points} points from version {from} to {to}"),
            Change::SetAlias { alias, version } => write!(f, "set alias {alias} to version {version}"),
            Change::DropAlias(alias) => write!(f, "drop alias {alias}"),
            Change::Promote(version) => write!(f, "promote version {version}"),
            Change::Rollback => f.write_str("rollback"),
            Change::RollbackTo(revision) => write!(f, "rollback to revision {revision}"),
            Change::Abort => f.write_str("abort"),
            Change::ResetTraffic => f.write_str("reset traffic to the configuration"),
        }
    }
}

impl Display for Record {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "revision {}: {}", self.revision, self.change)?;
        if !self.actor.is_empty() {
            write!(f, " by {}", self.actor)?;
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, " ({})", self.reason) }
    }
}

impl Display for Traffic {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let weights = self.weights.iter().map(|(version, weight)| format!("{version}={weight}"));
        let aliases = self.aliases.iter().map(|(alias, version)| format!("{alias}={version}"));
        let all: Vec<String> = weights.chain(aliases).collect();
        f.write_str(if all.is_empty() { "the highest version that is ready" } else { "" })?;
        f.write_str(&all.join(" "))
    }
}
