//! The desired state as text: a line that says what follows and by which it can be held, then JSON for people.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Desired, format_1::DesiredV1};

const FORMAT: &str = "onnxd-state";

/// The version of the format that is written; newer ones can't be read.
const VERSION: u64 = 2;

#[derive(Serialize, Deserialize)]
struct DocumentHeader {
    format: String,
    version: u64,
    /// Of all that comes after the line.
    sha256: String,
}

/// Why a text is no state.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It is not what was written, for people.
    Damaged(String),
    /// It was written by a newer server, in this version of the format.
    Newer(u64),
}

/// The text of a state.
///
/// # Errors
/// For people; none is known.
pub(super) fn encode(desired: &Desired) -> Result<String, String> {
    let mut body = serde_json::to_string_pretty(desired).map_err(|error| error.to_string())?;
    body.push('\n');
    let head = DocumentHeader { format: FORMAT.into(), version: VERSION, sha256: sha256(&body) };
    let head = serde_json::to_string(&head).map_err(|error| error.to_string())?;
    Ok(format!("{head}\n{body}"))
}

/// The state that a text holds.
pub(super) fn decode(text: &[u8]) -> Result<Desired, Wrong> {
    let damaged = |why: String| Wrong::Damaged(why);
    let text = std::str::from_utf8(text).map_err(|error| damaged(format!("it is not UTF-8: {error}")))?;
    let (head, body) = text.split_once('\n').ok_or_else(|| damaged("its first line does not end".into()))?;
    let head: DocumentHeader =
        serde_json::from_str(head).map_err(|error| damaged(format!("its first line: {error}")))?;
    if head.format != FORMAT {
        return Err(damaged(format!("its format is '{}', expected '{FORMAT}'", head.format.escape_debug())));
    }
    if head.version > VERSION {
        return Err(Wrong::Newer(head.version));
    }
    let got = sha256(body);
    if head.sha256 != got {
        return Err(damaged(format!("its SHA-256 should be {}, got {got}", head.sha256.escape_debug())));
    }
    let desired = match head.version {
        1 => serde_json::from_str::<DesiredV1>(body).map(Desired::from),
        _ => serde_json::from_str(body),
    };
    desired.map_err(|error| damaged(error.to_string()))
}

pub(super) fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wrong::Damaged(why) => f.write_str(why),
            Wrong::Newer(version) => write!(
                f,
                "it was written by a newer onnxd (format {version}; this one reads up to {VERSION}): start that one, or \
                 choose another --state-dir"
            ),
        }
    }
}
