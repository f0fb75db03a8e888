//! Imports of source files, read from their tokens: comments and strings don't count, what macros are given does.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use super::root;
use crate::support::sources::rust_files;

/// Path of a module in the crate.
pub type Module = Vec<String>;

/// A source file.
pub struct File {
    pub path: PathBuf,
    pub module: Module,
    uses: Vec<Use>,
    /// Paths in the code beside those in `use`.
    paths: Vec<Named>,
}

/// One name that a `use` brings in.
struct Use {
    named: Named,
    alias: Option<String>,
    is_public: bool,
}

/// A path as it is written, and how many inline modules deep.
struct Named {
    depth: usize,
    path: Vec<String>,
}

/// The source files of the crate.
pub struct Sources {
    files: BTreeMap<Module, File>,
}

impl Sources {
    pub fn read() -> Self {
        let src = root().join("src");
        let files = rust_files(&src);
        assert!(files.len() > 20, "the sources were not found");
        let file = |path: PathBuf| {
            let inner = path.strip_prefix(&src).unwrap().with_extension("");
            let module: Module = inner.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            let module = if module == ["lib"] { Module::new() } else { module };
            let text = fs::read_to_string(&path).unwrap();
            File::parse(path, module, &text)
        };
        Sources::from(files.into_iter().map(file))
    }

    /// Files by their modules' paths and texts, for tests of this reader.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let file = |(name, text): &(&str, &str)| {
            File::parse(PathBuf::from(name), name.split('/').map(String::from).collect(), text)
        };
        Sources::from(files.iter().map(file))
    }

    fn from(files: impl Iterator<Item = File>) -> Self {
        Sources { files: files.map(|file| (file.module.clone(), file)).collect() }
    }

    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.files.values()
    }

    /// The modules whose files a file imports, each with a path that does.
    pub fn imports(&self, file: &File) -> BTreeMap<Module, String> {
        let mut names = BTreeMap::new();
        let mut wanted = Vec::new();
        for used in &file.uses {
            let Some(path) = self.absolute(file, &used.named) else { continue };
            // A name that is exported again counts where it is used.
            if !used.is_public {
                wanted.push(path.clone());
            }
            if let Some(name) = used.alias.as_ref().or(path.last()) {
                names.insert(name.clone(), path);
            }
        }
        for named in &file.paths {
            let path = match names.get(&named.path[0]) {
                Some(known) => Some(known.iter().chain(&named.path[1..]).cloned().collect()),
                None => self.absolute(file, named),
            };
            wanted.extend(path);
        }
        let mut imports = BTreeMap::new();
        for path in wanted {
            let module = self.defining(&path, 0);
            if module != file.module {
                imports.entry(module).or_insert_with(|| path.join("::"));
            }
        }
        imports
    }

    /// The path from the crate's root; `None` for a path into another crate.
    fn absolute(&self, file: &File, named: &Named) -> Option<Vec<String>> {
        let (first, rest) = named.path.split_first()?;
        let from = |module: &[String]| Some(module.iter().chain(rest).cloned().collect());
        match first.as_str() {
            "crate" | "onnxd" => Some(rest.to_vec()),
            "self" => from(&file.module),
            "super" => {
                // Inline modules are a part of the file.
                let supers = named.path.iter().take_while(|part| *part == "super").count();
                let up = supers.saturating_sub(named.depth);
                let module = &file.module[..file.module.len().checked_sub(up)?];
                Some(module.iter().chain(&named.path[supers..]).cloned().collect())
            }
            child => {
                let module: Module = file.module.iter().cloned().chain([child.to_owned()]).collect();
                self.files.contains_key(&module).then(|| from(&module))?
            }
        }
    }

    /// The module whose file defines what a path from the root names, through what modules export again.
    fn defining(&self, path: &[String], depth: usize) -> Module {
        let length = (0..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length])).unwrap_or(0);
        let (module, rest) = path.split_at(length);
        let exported = rest.first().filter(|_| depth < 8).and_then(|name| {
            let file = self.files.get(module)?;
            let used = file
                .uses
                .iter()
                .find(|used| used.is_public && used.alias.as_ref().or(used.named.path.last()) == Some(name))?;
            self.absolute(file, &used.named)
        });
        match exported {
            Some(exported) => {
                let path: Vec<_> = exported.into_iter().chain(rest[1..].iter().cloned()).collect();
                self.defining(&path, depth + 1)
            }
            None => module.to_vec(),
        }
    }
}

impl File {
    fn parse(path: PathBuf, module: Module, text: &str) -> Self {
        let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut file = File { path, module, uses: Vec::new(), paths: Vec::new() };
        file.walk(tokens, 0);
        file
    }

    fn walk(&mut self, tokens: TokenStream, depth: usize) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        let mut is_public = false;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(word) if word == "pub" => {
                    is_public = true;
                    at += 1;
                    // As in `pub(super)`.
                    if matches!(&tokens.get(at), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis)
                    {
                        at += 1;
                    }
                    continue;
                }
                TokenTree::Ident(word) if word == "use" => {
                    let end = (at..tokens.len()).find(|index| is_punct(&tokens[*index], ';')).unwrap_or(tokens.len());
                    self.read_use(&tokens[at + 1..end], &[], is_public, depth);
                    at = end;
                }
                TokenTree::Ident(word) if word == "mod" => {
                    if let Some(TokenTree::Group(group)) = tokens.get(at + 2) {
                        self.walk(group.stream(), depth + 1);
                        at += 2;
                    }
                }
                TokenTree::Ident(_) => {
                    let path = path_at(&tokens, at);
                    let follows_path = at > 0 && is_punct(&tokens[at - 1], ':');
                    if path.len() > 1 && !follows_path {
                        at += 3 * (path.len() - 1);
                        self.paths.push(Named { depth, path });
                    }
                }
                TokenTree::Group(group) => self.walk(group.stream(), depth),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            is_public = false;
            at += 1;
        }
    }

    fn read_use(&mut self, tokens: &[TokenTree], prefix: &[String], is_public: bool, depth: usize) {
        for tree in tokens.split(|token| is_punct(token, ',')).filter(|tree| !tree.is_empty()) {
            let mut path = prefix.to_vec();
            let mut alias = None;
            let mut has_group = false;
            let mut words = tree.iter();
            while let Some(token) = words.next() {
                match token {
                    TokenTree::Ident(word) if word == "as" => alias = words.next().map(ToString::to_string),
                    TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
                    TokenTree::Ident(word) => path.push(word.to_string()),
                    TokenTree::Group(group) => {
                        has_group = true;
                        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                        self.read_use(&inner, &path, is_public, depth);
                    }
                    TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                }
            }
            if !path.is_empty() && !has_group {
                self.uses.push(Use { named: Named { depth, path }, alias, is_public });
            }
        }
    }

    /// True if the code names a crate in a path.
    pub fn names_crate(&self, name: &str) -> bool {
        self.all_paths().any(|path| path.first().is_some_and(|first| first == name))
    }

    /// True if the code has a path that ends like this.
    pub fn names(&self, end: &str) -> bool {
        let end: Vec<&str> = end.split("::").collect();
        self.all_paths().any(|path| path.windows(end.len()).any(|window| window == end))
    }

    fn all_paths(&self) -> impl Iterator<Item = &Vec<String>> {
        self.uses.iter().map(|used| &used.named.path).chain(self.paths.iter().map(|named| &named.path))
    }
}

/// Words with `::` between them.
fn path_at(tokens: &[TokenTree], mut at: usize) -> Vec<String> {
    let mut path = Vec::new();
    while let Some(TokenTree::Ident(word)) = tokens.get(at) {
        path.push(word.to_string());
        let goes_on = tokens.get(at + 1).is_some_and(|token| is_punct(token, ':'))
            && tokens.get(at + 2).is_some_and(|token| is_punct(token, ':'));
        if !goes_on {
            break;
        }
        at += 3;
    }
    path
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

/// Sets of modules that import each other, directly or around a corner.
pub fn circles(graph: &BTreeMap<Module, BTreeMap<Module, String>>) -> Vec<Vec<Module>> {
    let reached = |from: &Module| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&Module> = graph[from].keys().collect();
        while let Some(module) = next.pop() {
            if seen.insert(module) {
                next.extend(graph.get(module).into_iter().flat_map(BTreeMap::keys));
            }
        }
        seen
    };
    let reach: BTreeMap<&Module, BTreeSet<&Module>> = graph.keys().map(|module| (module, reached(module))).collect();
    let mut circles: Vec<Vec<Module>> = Vec::new();
    for module in graph.keys().filter(|module| reach[module].contains(module)) {
        if circles.iter().any(|circle| circle.contains(module)) {
            continue;
        }
        let together = graph.keys().filter(|other| reach[module].contains(other) && reach[*other].contains(module));
        circles.push(together.cloned().collect());
    }
    circles
}
