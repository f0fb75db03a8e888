//! The audit log: `audit.jsonl`, a line for each change, never rewritten. A log that has become large is renamed: the new name
//! holds the number of its last change.

use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use super::{Desired, Record};

pub(super) const FILE: &str = "audit.jsonl";

/// Prefix and extension of the names of full log files, around the number of their last change.
const ASIDE: &str = "audit-";
const EXTENSION: &str = ".jsonl";

/// Bytes beyond which the next change begins another file.
const MAX_LOG_BYTES: u64 = 64 << 20;

/// Bytes at the end that hold the last line, whatever it says.
const LAST: u64 = 4 << 20;

#[derive(Serialize)]
struct AuditLine<'a> {
    model: &'a str,
    #[serde(flatten)]
    record: &'a Record,
}

#[derive(Deserialize)]
struct Revision {
    revision: u64,
}

/// Appends changes to a log of which `last` is the last one, and has them on the disk when it returns. What can't be written whole
/// is not written.
pub(super) fn append(folder: &Path, last: u64, records: &[(&str, &Record)]) -> io::Result<()> {
    let mut text = String::new();
    for (model, record) in records {
        text += &serde_json::to_string(&AuditLine { model, record })?;
        text.push('\n');
    }
    let path = folder.join(FILE);
    if fs::metadata(&path).is_ok_and(|file| file.len() > MAX_LOG_BYTES) {
        // Where that fails, it becomes larger.
        let _ = fs::rename(&path, folder.join(format!("{ASIDE}{last}{EXTENSION}")));
    }
    let is_new = !path.exists();
    let mut file = File::options().append(true).create(true).open(path)?;
    let before = file.metadata()?.len();
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Where that fails too, the next start cuts a torn line off.
        let _ = file.set_len(before);
    } else if is_new {
        File::open(folder)?.sync_all()?;
    }
    written
}

/// The revision of the last line; 0: there is none. With `mend` a last line that was not written to its end is cut off.
pub(super) fn last_revision(folder: &Path, mend: bool) -> io::Result<u64> {
    let mut file = match File::options().read(true).write(mend).open(folder.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return last_aside(folder),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    let begin = length.saturating_sub(LAST);
    file.seek(SeekFrom::Start(begin))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    if mend && whole < end.len() {
        file.set_len(begin + whole as u64)?;
        file.sync_all()?;
    }
    let lines = end[..whole].split(|byte| *byte == b'\n').rev();
    let mut revisions = lines.filter_map(|line| serde_json::from_slice(line).ok());
    match revisions.next() {
        Some(Revision { revision }) => Ok(revision),
        None => last_aside(folder),
    }
}

/// The revision of the last line of the full log files; 0: there are none.
fn last_aside(folder: &Path) -> io::Result<u64> {
    let mut last = 0;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(ASIDE)?.strip_suffix(EXTENSION)?.parse().ok());
        last = last.max(number.unwrap_or(0));
    }
    Ok(last)
}

/// The changes that came after a revision, oldest first, as far as the history goes back.
pub(super) fn since(desired: &Desired, revision: u64) -> Vec<(&str, &Record)> {
    let records = desired
        .models
        .iter()
        .flat_map(|(model, state)| state.history.iter().map(move |record| (model.as_str(), record)));
    let mut since: Vec<_> = records.filter(|(_, record)| record.revision > revision).collect();
    since.sort_by_key(|(_, record)| record.revision);
    since
}
