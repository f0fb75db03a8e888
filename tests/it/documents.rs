//! The documents hold together: links and paths lead somewhere, and maps stay short.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents of the repository with their texts, by their paths within it.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_symlink() || name.starts_with('.') || name == "target" || name == "node_modules" {
            } else if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 40, "the documents were not found");
    found.sort();
    found
}

/// The lines of a document that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let lower = heading.to_lowercase();
        let kept = lower.chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
        kept.map(|character| if character == ' ' { '-' } else { character }).collect()
    };
    headings.map(anchor).collect()
}

/// The targets of the links in a document. A link may be broken over two lines.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text).collect::<Vec<_>>().join(" ");
    prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The words in backticks of a document.
fn quoted(text: &str) -> Vec<String> {
    let prose = prose(text).collect::<Vec<_>>().join(" ");
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn links_of_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in documents() {
        for link in links(&text).iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => root().join(&path),
                file => root().join(&path).parent().unwrap().join(file),
            };
            let is_there = match fs::read_to_string(&target) {
                Ok(text) => anchor.is_empty() || anchors(&text).contains(anchor),
                Err(_) => anchor.is_empty() && target.exists(),
            };
            if !is_there {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere: {broken:#?}");
}

/// The map and the design pages name files by their paths, from `src/` or from the root of the repository.
#[test]
fn paths_in_maps_exist() {
    let mut missing = Vec::new();
    for (path, text) in documents() {
        if path != Path::new("ARCHITECTURE.md") && !path.starts_with("docs/design") {
            continue;
        }
        let names = quoted(&text);
        let is_path = |name: &&String| {
            let is_plain =
                name.chars().all(|character| character.is_ascii_alphanumeric() || "/._-".contains(character));
            let is_file = [".rs", ".py", ".c", ".proto", ".md"].iter().any(|extension| name.ends_with(extension));
            is_plain && (is_file || name.ends_with('/')) && !name.starts_with('/') && !name.starts_with("DIR/")
        };
        for name in names.iter().filter(is_path) {
            if !root().join("src").join(name).exists() && !root().join(name).exists() {
                missing.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "these files do not exist: {missing:#?}");
}

#[test]
fn maps_are_short() {
    let text = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let lines = text("README.md").lines().count();
    assert!(lines < 200, "README.md has {lines} lines: move details to a guide in docs/");
    let bytes = text("ARCHITECTURE.md").len();
    assert!(bytes < 12_000, "ARCHITECTURE.md has {bytes} bytes: move history and figures to docs/design/");
}
