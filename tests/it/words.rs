//! Words of the sources: comments and names of tests begin with their subject, constants say what they bound, log messages are
//! constants, names of types are unique.

mod log_events;
mod test_names;
mod type_names;

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::sources::rust_files;

/// Folders of the sources whose words are held.
const FOLDERS: [&str; 5] = ["src", "loadtest/src", "loadtest/tests", "tests/it", "build"];

/// Beginnings of a comment that hide its subject.
const HIDDEN_SUBJECTS: [&str; 8] = ["What", "Who", "Whose", "Whether", "That", "Those", "How", "Which"];

/// Names of constants that say nothing of what they bound.
const EMPTY_NAMES: [&str; 3] = ["PATIENCE", "LARGEST", "MOST"];

/// Comments that may report a telling; all others report, log, return or show.
const MAX_TELLINGS: usize = 10;

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = FOLDERS.iter().flat_map(|folder| rust_files(&root.join(folder))).collect();
    files.push(root.join("build.rs"));
    assert!(files.len() > 100, "the sources were not found");
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// Lines of comments and documentation that begin with a sentence which hides its subject.
fn hidden_subjects(text: &str) -> Vec<&str> {
    let is_hidden = |line: &&str| {
        let Some(comment) = line.strip_prefix("//") else { return false };
        let words = comment.trim_start_matches(['/', '!']).trim_start();
        let first = words.split(|character: char| !character.is_alphabetic()).next().unwrap_or_default();
        HIDDEN_SUBJECTS.contains(&first)
    };
    text.lines().map(str::trim_start).filter(is_hidden).collect()
}

#[test]
fn comments_begin_with_their_subject() {
    for (path, text) in sources() {
        let found = hidden_subjects(&text);
        assert!(found.is_empty(), "{}: begin with the concrete noun: {found:#?}", path.display());
    }
    assert_eq!(
        hidden_subjects(
            "/// Time of a run, and\n/// what it is.\n  // How it is.\n//!\n//! Those.\n/// Whether it runs."
        ),
        ["// How it is.", "//! Those.", "/// Whether it runs."]
    );
}

#[test]
fn comments_report_instead_of_telling() {
    let is_telling = |word: &str| ["tell", "tells", "told"].contains(&word);
    let comment = |line: &str| line.find("//").map(|at| line[at..].to_owned());
    let tellings: usize = sources()
        .iter()
        .flat_map(|(_, text)| text.lines().filter_map(comment).collect::<Vec<_>>())
        .map(|comment| {
            comment.split(|character: char| !character.is_alphanumeric()).filter(|word| is_telling(word)).count()
        })
        .sum();
    assert!(tellings < MAX_TELLINGS, "{tellings} comments tell something: let them report, log, return or show it");
}

#[test]
fn constants_name_their_bound() {
    for (path, text) in sources().into_iter().filter(|(path, _)| !path.ends_with("words.rs")) {
        let names = text.lines().filter_map(|line| line.split_once("const ")?.1.split_once(':')).map(|(name, _)| name);
        for name in names {
            let is_empty = name.split('_').any(|word| EMPTY_NAMES.contains(&word));
            assert!(!is_empty, "{}: {name} does not say what it bounds, nor its unit", path.display());
        }
    }
}
