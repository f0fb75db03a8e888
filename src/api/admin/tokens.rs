//! The tokens that callers show, out of a file that may change while the server runs.

use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use subtle::ConstantTimeEq;

/// The setting that names the file.
const SETTING: &str = "--admin-token-file";

/// Bytes of the file at most.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// The tokens of a file: one per line, with the name of its bearer and a colon in front, or without. Whitespace around them,
/// empty lines and those that begin with # count for nothing.
#[derive(Debug)]
pub struct Tokens {
    file: PathBuf,
    state: Mutex<TokenState>,
}

#[derive(Debug)]
struct TokenState {
    tokens: Arc<[Token]>,
    /// Why the file could not be used the last time.
    problem: Option<String>,
}

#[derive(Debug)]
struct Token {
    bearer: Option<Arc<str>>,
    /// Hashed, so that its length does not show either in how long a comparison takes.
    digest: [u8; 32],
}

impl Tokens {
    /// The tokens of a file.
    ///
    /// # Errors
    /// The file can't be read, or has no token.
    pub fn open(file: PathBuf) -> Result<Self, String> {
        let at = |why: String| format!("{SETTING} {}: {why}", file.display());
        let (tokens, mode) = read(&file).map_err(at)?;
        if mode & OTHERS_READ != 0 {
            tracing::info!(
                setting = SETTING,
                path = %file.display(),
                mode = format!("{mode:03o}"),
                hint = "run `chmod 400` on it, or set defaultMode 0400 on a Kubernetes secret, unless no other user \
                        is here",
                "admin token file readable by every user"
            );
        }
        Ok(Tokens { file, state: Mutex::new(TokenState { tokens, problem: None }) })
    }

    /// The name of a token's bearer, if the file has the token now. Reads the file: what was taken out of it is
    /// refused from then on. Where it has gone, or has no token, those that it had count.
    pub(super) fn bearer(&self, token: &[u8]) -> Option<Option<Arc<str>>> {
        let tokens = self.now();
        let digest: [u8; 32] = Sha256::digest(token).into();
        // Every one is compared, whole.
        let fitting = tokens
            .iter()
            .fold(None, |found, token| if bool::from(token.digest.ct_eq(&digest)) { Some(token) } else { found });
        fitting.map(|token| token.bearer.clone())
    }

    fn now(&self) -> Arc<[Token]> {
        let read = read(&self.file);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok((tokens, _)) => {
                state.tokens = tokens;
                state.problem = None;
            }
            Err(why) => {
                if state.problem.as_ref() != Some(&why) {
                    let path = self.file.display();
                    tracing::error!(
                        setting = SETTING,
                        %path,
                        error = why,
                        "admin token file unusable, its previous tokens still count"
                    );
                    state.problem = Some(why);
                }
            }
        }
        state.tokens.clone()
    }
}

/// Permissions of the file that let others write to it, and read it.
const OTHERS_WRITE: u32 = 0o002;
const OTHERS_READ: u32 = 0o004;

/// The tokens, and the permissions of the file. A file that any user may write to is refused: whoever writes a token into it
/// controls the server.
fn read(file: &PathBuf) -> Result<(Arc<[Token]>, u32), String> {
    let mut text = String::new();
    let mut read = || -> io::Result<u32> {
        let file = File::open(file)?;
        let metadata = file.metadata()?;
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
        // A pipe, as of a shell's <(...), has permissions that say nothing.
        Ok(if metadata.is_file() { metadata.mode() & 0o777 } else { 0 })
    };
    let mode = read().map_err(|error| format!("it can't be read: {error}"))?;
    if mode & OTHERS_WRITE != 0 {
        return Err(format!(
            "every user may write to it (mode {mode:03o}), and add a token: run `chmod o-w` on it, or set defaultMode 0400 on a Kubernetes secret"
        ));
    }
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it has more than {MAX_FILE_BYTES} bytes: it should have a token per line"));
    }
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let tokens = lines.map(|(index, line)| parse(line).map_err(|why| format!("line {}: {why}", index + 1)));
    let tokens: Arc<[Token]> = tokens.collect::<Result<_, _>>()?;
    if tokens.is_empty() { Err("it has no token".into()) } else { Ok((tokens, mode)) }
}

/// The line must not be repeated in a message: it is a secret.
fn parse(line: &str) -> Result<Token, String> {
    let (bearer, token) = match line.split_once(':') {
        Some((bearer, token)) => (Some(bearer.trim()), token.trim()),
        None => (None, line),
    };
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || !token.bytes().all(known) {
        return Err("expected TOKEN or NAME:TOKEN; a token is letters, digits and -._~+/=".into());
    }
    Ok(Token {
        bearer: bearer.filter(|bearer| !bearer.is_empty()).map(Into::into),
        digest: Sha256::digest(token).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    #[test]
    fn token_file_parses_one_token_per_line() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("tokens");
        let written = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read(&file)
                .map(|(tokens, _)| tokens.iter().map(|token| token.bearer.as_deref().map(str::to_owned)).collect())
        };
        assert_eq!(written("s3cret \r\n"), Ok(vec![None]));
        assert_eq!(written("# ours\n\nann: abc==\n b-._~+/ \n:c"), Ok(vec![Some("ann".into()), None, None]));
        let none: Result<Vec<Option<String>>, _> = Err("it has no token".into());
        assert_eq!(written(" \n"), none);
        for wrong in ["a b", "ann:", "ann:b c", "ü"] {
            let why = written(&format!("good\n{wrong}")).unwrap_err();
            assert!(why.starts_with("line 2: expected TOKEN") && !why.contains(wrong), "{why}");
        }
        let why = written(&"a".repeat(MAX_FILE_BYTES as usize + 1)).unwrap_err();
        assert!(why.contains("more than"), "{why}");
    }

    #[test]
    fn token_file_rejects_world_writable_modes() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("tokens");
        std::fs::write(&file, "s3cret").unwrap();
        for mode in [0o400, 0o640, 0o660, 0o644] {
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&file).unwrap().1, mode, "{mode:o}");
        }
        for mode in [0o602, 0o666] {
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let why = read(&file).unwrap_err();
            assert!(
                why.contains(&format!("every user may write to it (mode {mode:03o})")) && why.contains("chmod o-w"),
                "{why}"
            );
        }
    }
}
