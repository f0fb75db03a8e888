//! Divides requests over versions by weight: pure.
//!
//! Weights count only where they are above zero and their version is ready. They are scaled once, by a power of two, which
//! changes no bit of them but the exponent.
//!
//! **By chance.** A ticket is any of the 2^64 integers; each version has as many of them as are its share, one behind the
//! other. Boundaries are computed in integers: with integer weights, tickets at even distances are divided exactly.
//!
//! **By key**: weighted rendezvous hashing. Every version draws a number of its own from the key,
//!
//! ```text
//! h     = XXH64(seed: the version; the model's name, a zero byte, the key)
//! u     = (floor(h / 4096) + 0.5) / 2^52
//! score = -ln(u) / weight
//! ```
//!
//! and the least score wins, of equal ones the lowest version. Each version wins its share of keys, and a change of one
//! weight changes one score: the keys that move, move into that version when it is raised, and out of it when it is lowered
//! or gone. Nothing is remembered: replicas, and clients, find the same version without asking each other. The result
//! is the same to the last bit everywhere: `u` is exact and never 0 or 1, and `ln` is the one of the `libm` crate on every
//! platform.

use std::hash::Hasher;
use twox_hash::XxHash64;

use crate::traffic::Weights;

/// Division of requests over the versions that are ready and have weight: at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Lowest version first.
    parts: Box<[Part]>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    version: u64,
    /// Its weight, scaled.
    weight: f64,
    /// The first ticket behind its own; 2^64 for the last.
    end: u128,
}

/// Number of tickets.
const TICKETS: u128 = 1 << 64;

impl Split {
    /// The split over those of the versions that have weight; `None` where none has.
    pub fn new(weights: &Weights, ready: impl Fn(u64) -> bool) -> Option<Self> {
        let weighted: Vec<_> = weights.iter().filter(|(version, weight)| *weight > 0.0 && ready(*version)).collect();
        let greatest = weighted.iter().map(|(_, weight)| *weight).reduce(f64::max)?;
        // The greatest becomes an integer of as many bits as leave the sum of all within 64.
        let bits = 62 - weighted.len().ilog2().cast_signed();
        let scale = |weight| libm::scalbn(weight, bits - libm::ilogb(greatest));
        let integer = |weight| u128::from(scale(weight).round() as u64);
        let total: u128 = weighted.iter().map(|(_, weight)| integer(*weight)).sum();
        let mut sum = 0;
        let part = |(version, weight): &(u64, f64)| {
            sum += integer(*weight);
            Part { version: *version, weight: scale(*weight), end: sum * TICKETS / total }
        };
        Some(Split { parts: weighted.iter().map(part).collect() })
    }

    /// The only version, where there is only one.
    pub fn only(&self) -> Option<u64> {
        match *self.parts {
            [part] => Some(part.version),
            _ => None,
        }
    }

    /// The version that a ticket falls to.
    pub fn random(&self, ticket: u64) -> u64 {
        let index = self.parts.partition_point(|part| part.end <= ticket.into());
        self.parts[index].version
    }

    /// The version that a key of a model's requests falls to.
    pub fn sticky(&self, model: &str, key: &[u8]) -> u64 {
        let mut best = (self.parts[0].version, f64::INFINITY);
        for part in &self.parts {
            let score = -libm::log(drawn(part.version, model, key)) / part.weight;
            if score < best.1 {
                best = (part.version, score);
            }
        }
        best.0
    }

    /// The part of the requests that a version gets, from 0 to 1.
    pub fn share(&self, version: u64) -> f64 {
        let mut begin = 0;
        for part in &self.parts {
            if part.version == version {
                return (part.end - begin) as f64 / TICKETS as f64;
            }
            begin = part.end;
        }
        0.0
    }

    /// The version with the greatest weight, of equal ones the lowest.
    pub fn greatest(&self) -> u64 {
        let first = self.parts[0];
        self.parts.iter().fold(first, |best, part| if part.weight > best.weight { *part } else { best }).version
    }
}

/// The number between 0 and 1 that a version draws from a key.
fn drawn(version: u64, model: &str, key: &[u8]) -> f64 {
    let mut hasher = XxHash64::with_seed(version);
    hasher.write(model.as_bytes());
    hasher.write(&[0]);
    hasher.write(key);
    // With the half, 53 bits: all that a float holds.
    ((hasher.finish() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

#[cfg(test)]
mod tests;
