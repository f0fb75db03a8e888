//! The house stands: a file imports only from floors below its own, and what belongs in one room is named in no other.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The rooms of each floor, from below.
const FLOORS: [&[&str]; 6] = [
    &["tensor", "error", "clock", "config", "json", "metrics", "per_thread", "terminal", "traffic"],
    &["batcher", "engine", "host", "ort_library"],
    &["router"],
    &["registry", "loader", "repository", "state"],
    &["api"],
    &["main", "commands", "server", "fuzzing", "lib"],
];

/// Imports on one floor that are drawn.
const ARROWS: [(&str, &str); 24] = [
    ("tensor", "error"),
    ("tensor", "traffic"),
    ("json", "error"),
    ("json", "tensor"),
    ("metrics", "clock"),
    ("metrics", "error"),
    ("metrics", "per_thread"),
    ("metrics", "traffic"),
    ("traffic", "error"),
    ("config", "traffic"),
    ("batcher", "engine"),
    ("engine", "host"),
    ("engine", "ort_library"),
    ("registry", "loader"),
    ("registry", "repository"),
    ("registry", "state"),
    ("loader", "repository"),
    ("main", "commands"),
    ("main", "server"),
    ("commands", "server"),
    ("server", "commands"),
    ("fuzzing", "commands"),
    ("loader", "state"),
    ("host", "ort_library"),
];

/// Crates that only one room names, or these rooms.
const ONLY_IN: [(&str, &[&str]); 9] = [
    ("ort", &["engine"]),
    ("arc_swap", &["router"]),
    ("tonic", &["api"]),
    ("axum", &["api", "server"]),
    ("hyper", &["api", "server", "commands"]),
    ("serde_json", &["api", "commands", "json", "state", "loader"]),
    ("clap", &["commands", "main"]),
    ("notify", &["registry"]),
    ("nvml_wrapper", &["host"]),
];

#[test]
fn imports_go_down() {
    for (file, room, text) in sources() {
        let own = floor(&room).unwrap_or_else(|| panic!("{}: the room '{room}' has no floor", file.display()));
        for other in imported_rooms(&text) {
            let target = floor(&other).unwrap_or_else(|| panic!("{}: crate::{other} has no floor", file.display()));
            let drawn = ARROWS.contains(&(room.as_str(), other.as_str()));
            assert!(
                other == room || target < own || target == own && drawn,
                "{}: floor {own} ({room}) imports crate::{other} of floor {target}",
                file.display()
            );
        }
    }
}

#[test]
fn crates_stay_in_their_rooms() {
    for (file, room, text) in sources() {
        for (name, rooms) in ONLY_IN {
            let named = code(&text).any(|line| mentions(line, name));
            assert!(
                !named || rooms.contains(&room.as_str()),
                "{} names {name}, which belongs in {rooms:?}",
                file.display()
            );
        }
    }
}

/// A clock before 1970 would panic where a date is formatted.
#[test]
fn system_clock_is_read_in_one_room() {
    for (file, room, text) in sources() {
        let reads = code(&text).any(|line| line.contains("SystemTime::now"));
        assert!(!reads || room == "clock", "{} reads the system's clock: clock::now() is clamped", file.display());
    }
}

#[test]
fn files_are_small() {
    for (file, _, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 500, "{} has {lines} lines: split it", file.display());
    }
}

/// Every source file with its room, which is the first part of its path.
fn sources() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "the sources were not found");
    let source = |file: PathBuf| {
        let first = file.strip_prefix(&root).unwrap().iter().next().unwrap().to_str().unwrap();
        let room = first.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&file).unwrap();
        (file, room, text)
    };
    files.into_iter().map(source).collect()
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

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The lines without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

/// The rooms in `crate::room` and `use crate::{room, room::..}`, and in the binary `onnxd::room`.
fn imported_rooms(text: &str) -> BTreeSet<String> {
    let code: String = code(text).collect::<Vec<_>>().join("\n");
    let mut rooms = BTreeSet::new();
    for prefix in ["crate::", "onnxd::"] {
        for (at, _) in code.match_indices(prefix) {
            // The target of a log line.
            if code[..at].ends_with('"') {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(group) => rooms.extend(group_heads(group)),
                None => rooms.extend([identifier(rest)]),
            }
        }
    }
    rooms.remove("");
    rooms
}

/// The first identifier of each element of a braced group, up to its closing brace.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = vec![identifier(group.trim_start())];
    let mut depth = 1;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => heads.push(identifier(group[at + 1..].trim_start())),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|character| character.is_ascii_alphanumeric() || *character == '_').collect()
}

/// Whether the line names the crate in a path.
fn mentions(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let word =
            before.is_none_or(|character| !character.is_ascii_alphanumeric() && character != '_' && character != ':');
        word && line[at + name.len()..].starts_with("::")
    })
}

#[test]
fn the_reader_of_imports_sees_them() {
    let rooms = |text| imported_rooms(text).into_iter().collect::<Vec<_>>();
    assert_eq!(rooms("use crate::router::Router;"), ["router"]);
    assert_eq!(
        rooms("use crate::{\n    api::{Context, http},\n    error::Error,\n    tensor,\n};"),
        ["api", "error", "tensor"]
    );
    assert_eq!(rooms("fn f(x: crate::engine::Engine) {} // crate::server"), ["engine"]);
    assert!(
        mentions("use ort::session;", "ort") && !mentions("use crate::ort::x;", "ort") && !mentions("port::x", "ort")
    );
}
