//! Names of types: each is declared in one room, which is a file or folder right below `src/`.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::support::sources::rust_files;

/// Words that declare a type, in front of its name.
const DECLARING: [&str; 5] = ["struct", "enum", "union", "trait", "type"];

/// Kind of a group of tokens, by the types that it declares.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// The body of an `impl` or a `trait`, whose own types are associated ones.
    Associated,
    Other,
}

#[test]
fn type_names_are_unique_across_rooms() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let paths = rust_files(&src);
    assert!(paths.len() > 100, "the sources were not found");
    let files: Vec<(PathBuf, String)> = paths
        .into_iter()
        .map(|path| (path.strip_prefix(&src).unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    let shared = shared_names(files.iter().map(|(path, text)| (path.as_path(), text.as_str())));
    assert!(
        shared.is_empty(),
        "{} type names are declared in several rooms: keep one, name the others by their role:\n{}",
        shared.len(),
        shared.join("\n")
    );
}

/// Names that several rooms declare, each with its files.
fn shared_names<'t>(files: impl Iterator<Item = (&'t Path, &'t str)>) -> Vec<String> {
    let mut declared: BTreeMap<String, BTreeSet<&Path>> = BTreeMap::new();
    for (path, text) in files {
        for name in declared_types(text) {
            declared.entry(name).or_default().insert(path);
        }
    }
    let room = |path: &&Path| path.iter().next().map(|first| Path::new(first).with_extension(""));
    let is_shared = |files: &BTreeSet<&Path>| files.iter().map(room).collect::<BTreeSet<_>>().len() > 1;
    let shown = |(name, files): (&String, &BTreeSet<&Path>)| {
        let files: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
        format!("{name}: {}", files.join(", "))
    };
    declared.iter().filter(|(_, files)| is_shared(files)).map(shown).collect()
}

/// Structs, enums, unions, traits and type aliases of a file. Types that a macro declares don't count, nor do associated ones.
fn declared_types(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    walk(text.parse().unwrap(), Body::Other, &mut names);
    names
}

fn walk(tokens: TokenStream, body: Body, names: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    // The first word of the present item that decides on its body.
    let mut item = None;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(word) => {
                let word = word.to_string();
                if let Some(TokenTree::Ident(name)) = tokens.get(at + 1)
                    && DECLARING.contains(&word.as_str())
                    && (body == Body::Other || word != "type")
                {
                    names.push(name.to_string());
                }
                if item.is_none() && ["impl", "trait", "fn"].contains(&word.as_str()) {
                    item = Some(word);
                }
            }
            TokenTree::Group(group) => {
                if is_macro_input(&tokens[..at]) {
                    continue;
                }
                let is_item_body = group.delimiter() == Delimiter::Brace;
                let is_associated = is_item_body && item.as_deref().is_some_and(|word| word != "fn");
                walk(group.stream(), if is_associated { Body::Associated } else { Body::Other }, names);
                if is_item_body {
                    item = None;
                }
            }
            TokenTree::Punct(punct) if punct.as_char() == ';' => item = None,
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// True behind `name!` and `macro_rules! name`.
fn is_macro_input(before: &[TokenTree]) -> bool {
    let is_mark = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == '!');
    match before {
        [.., TokenTree::Ident(_), mark] if is_mark(mark) => true,
        [.., TokenTree::Ident(word), mark, TokenTree::Ident(_)] => word == "macro_rules" && is_mark(mark),
        _ => false,
    }
}

#[test]
fn reader_of_type_names_sees_every_form() {
    let text = "
        pub struct A<T>(T); pub(crate) enum B { Struct, Type(X) } trait C: Sized { type No; fn f() -> No { struct D; } }
        type E = [u8; { 4 }]; unsafe trait F {} union G { g: u8 } // struct No;
        impl<T> C for A<T> { type No = u8; fn f() { type H = u8; let _ = \"struct No;\"; } }
        mod m { fn f() -> impl C { type I = u8; } const K: u8 = { enum J {} 0 }; }
        macro_rules! make { ($name:ident) => { struct $name; struct No; }; }
        make! { struct No; } #[kind(type = \"x\")] fn last(not: bool) { if !not { struct L; } }
    ";
    assert_eq!(declared_types(text), ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "L"]);
}

#[test]
fn shared_names_are_those_of_several_rooms() {
    let files = [
        ("router.rs", "struct Split;"),
        ("router/split.rs", "struct Split; struct Share;"),
        ("state/share.rs", "type Share = f64;"),
        ("state.rs", "struct Store;"),
    ];
    let shared = shared_names(files.iter().map(|(path, text)| (Path::new(*path), *text)));
    assert_eq!(shared, ["Share: router/split.rs, state/share.rs"]);
}
