//! Words of the sources: comments and names of tests begin with their subject, constants say what they bound, log messages are
//! constants, names of types are unique.

mod log_events;
mod test_names;
mod type_names;

use std::{
    fs,
    path::{Path, PathBuf},
};

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
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut files);
    }
    assert!(files.len() > 100, "the sources were not found");
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The text of a line of documentation, with the mark that it begins with.
fn documentation(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    ["//!", "///"].into_iter().find_map(|mark| Some((mark, line.strip_prefix(mark)?.trim_start())))
}

/// First lines of documentation that hide their subject.
fn hidden_subjects(text: &str) -> Vec<String> {
    let mut before = None;
    let mut found = Vec::new();
    for line in text.lines() {
        let documentation = documentation(line);
        let mark = documentation.map(|(mark, _)| mark);
        if let Some((_, text)) = documentation.filter(|_| mark != before) {
            let first: String = text.chars().take_while(|character| character.is_alphabetic()).collect();
            if HIDDEN_SUBJECTS.contains(&first.as_str()) {
                found.push(line.trim().to_owned());
            }
        }
        before = mark;
    }
    found
}

#[test]
fn documentation_begins_with_its_subject() {
    for (path, text) in sources() {
        let found = hidden_subjects(&text);
        assert!(found.is_empty(), "{}: begin with the concrete noun: {found:#?}", path.display());
    }
    assert_eq!(
        hidden_subjects("/// Time of a run.\n/// What it is.\nfn f() {}\n/// Whether it runs."),
        ["/// Whether it runs."]
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
