//! Opening files that anyone may have put there: only regular ones are read, and nothing waits.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

/// Opens a regular file. A pipe would be waited for until somebody writes into it; anything else has no contents to read.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => return Ok((file, metadata)),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a pipe",
        () => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, expected a file")))
}

/// Reads a text of so many bytes at most.
pub(super) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let (file, _) = open(path)?;
    let mut text = String::new();
    let read = file.take(limit + 1).read_to_string(&mut text)?;
    if read as u64 > limit {
        let message = format!("it has more than {limit} bytes, which is the limit");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_files_are_read_and_so_far() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        assert!(read_text(&path, 4).unwrap_err().to_string().contains("more than 4 bytes"));
        let refused = |path: &Path| read_text(path, 5).unwrap_err().to_string();
        assert_eq!(refused(folder.path()), "it is a folder, expected a file");
        assert_eq!(refused(Path::new("/dev/zero")), "it is a device, expected a file");
    }
}
