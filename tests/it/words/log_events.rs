//! Log events of the server: a short constant message, and fields that docs/logging.md lists.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::{fs, path::Path};

use super::{HIDDEN_SUBJECTS, sources};

/// Macros of events.
const MACROS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "event"];

/// Words and characters of a message at most.
const MAX_WORDS: usize = 12;
const MAX_CHARACTERS: usize = 90;

/// Target of lines that another library has written: their messages are its own.
const FOREIGN_TARGET: &str = "onnxruntime";

/// An event of the log, as the source has it.
#[derive(Debug, Default)]
struct Event {
    target: Option<String>,
    fields: Vec<String>,
    message: Option<String>,
    has_arguments: bool,
}

impl Event {
    fn parse(arguments: TokenStream) -> Self {
        let mut event = Event::default();
        let tokens: Vec<TokenTree> = arguments.into_iter().collect();
        let is_comma = |token: &TokenTree| is_punct(token, ',');
        tokens.split(is_comma).filter(|argument| !argument.is_empty()).for_each(|argument| event.add(argument));
        event
    }

    fn add(&mut self, argument: &[TokenTree]) {
        match argument {
            // Arguments behind a message are put into it.
            _ if self.message.is_some() => self.has_arguments = true,
            [TokenTree::Literal(literal), ..] => self.message = Some(text(&literal.to_string())),
            [TokenTree::Group(fields)] if fields.delimiter() == Delimiter::Brace => {
                self.fields.extend(Event::parse(fields.stream()).fields);
            }
            [TokenTree::Ident(name), colon, value] if is_punct(colon, ':') && name == "target" => {
                self.target = Some(text(&value.to_string()));
            }
            // A parent, or a level.
            [TokenTree::Ident(_), colon, ..] if is_punct(colon, ':') => {}
            [sigil, field @ ..] if is_punct(sigil, '%') || is_punct(sigil, '?') => self.add(field),
            [TokenTree::Ident(name), ..] => self.fields.push(name.to_string()),
            other => panic!("an argument of a log event was not understood: {other:?}"),
        }
    }

    /// Reasons why the event is not a short constant with fields.
    fn problems(&self) -> Vec<String> {
        let Some(message) = &self.message else {
            let is_foreign = self.target.as_deref() == Some(FOREIGN_TARGET);
            return if is_foreign { vec![] } else { vec!["the message is no literal".into()] };
        };
        let words: Vec<&str> = message.split_whitespace().collect();
        let first = words.first().copied().unwrap_or_default().to_lowercase();
        let is_hidden = HIDDEN_SUBJECTS.iter().chain(&["It", "There"]).any(|word| word.to_lowercase() == first);
        let mut problems = Vec::new();
        if message.contains('{') || self.has_arguments {
            problems.push(format!("'{message}' has values in it: they belong into fields"));
        }
        if words.is_empty() || words.len() > MAX_WORDS || message.chars().count() > MAX_CHARACTERS {
            problems.push(format!("'{message}' has {} words: at most {MAX_WORDS} fit", words.len()));
        }
        if is_hidden {
            problems.push(format!("'{message}' does not begin with its subject"));
        }
        problems
    }
}

/// The events in tokens, at any depth.
fn events(tokens: TokenStream, found: &mut Vec<Event>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let is_event = index >= 2
            && is_punct(&tokens[index - 1], '!')
            && matches!(&tokens[index - 2], TokenTree::Ident(name) if MACROS.iter().any(|known| name == known));
        if is_event {
            found.push(Event::parse(group.stream()));
        } else {
            events(group.stream(), found);
        }
    }
}

fn events_of(text: &str) -> Vec<Event> {
    let mut found = Vec::new();
    events(text.parse().unwrap(), &mut found);
    found
}

/// The events of the server, with the paths of their files.
fn all_events() -> Vec<(String, Event)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = sources().into_iter().filter(|(path, _)| path.starts_with(root.join("src")));
    let found: Vec<_> = files
        .flat_map(|(path, text)| {
            events_of(&text).into_iter().map(move |event| (path.display().to_string(), event)).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.len() > 80, "the log events were not found: {}", found.len());
    found
}

/// Text of a string literal.
fn text(literal: &str) -> String {
    literal.trim_start_matches('r').trim_matches('#').trim_matches('"').replace("\\\"", "\"")
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

#[test]
fn log_messages_are_short_constants() {
    let problems: Vec<String> = all_events()
        .iter()
        .flat_map(|(path, event)| event.problems().into_iter().map(move |problem| format!("{path}: {problem}")))
        .collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn log_fields_are_documented() {
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/logging.md")).unwrap();
    let section = guide.split("\n## ").find(|section| section.starts_with("The server's log\n")).unwrap();
    let is_known = |field: &&String| *field == "message" || section.contains(&format!("`{field}`"));
    let unknown: Vec<String> = all_events()
        .iter()
        .flat_map(|(path, event)| event.fields.iter().map(move |field| (path, field)))
        .filter(|(_, field)| !is_known(field))
        .map(|(path, field)| format!("{path}: {field}"))
        .collect();
    assert!(
        unknown.is_empty(),
        "docs/logging.md does not list these fields, or has another name for them: {unknown:#?}"
    );
}

#[test]
fn wrong_log_events_are_found() {
    let problems = |event: &str| {
        let found = events_of(&format!("fn f() {{ if x {{ {event}; }} }}"));
        assert_eq!(found.len(), 1, "{event}");
        found[0].problems().len()
    };
    for right in [
        r#"tracing::info!("ready")"#,
        r#"tracing::warn!(model = key.0, version, %error, ?limit, path = %path.display(), "load failed, retrying")"#,
        r#"tracing::warn!(target: TARGET, hint = format!("call {name}, again"), "not ready")"#,
        r#"tracing::warn!(target: "onnxruntime", message, worker = process.id())"#,
        r#"event!(Level::INFO, { model, version }, "loading")"#,
    ] {
        assert_eq!(problems(right), 0, "{right}");
    }
    for wrong in [
        r#"tracing::error!("load failed: {error}")"#,
        r#"tracing::error!(model, "load failed: {}", error)"#,
        r#"warn!("connections", limit)"#,
        r#"tracing::info!(target: TARGET, message)"#,
        r#"tracing::info!(%error)"#,
        r#"tracing::info!("It is tried again")"#,
        r#"tracing::info!("there is no memory")"#,
        r#"tracing::info!("what is loaded goes on serving")"#,
        r#"tracing::info!("one two three four five six seven eight nine ten eleven twelve thirteen")"#,
        r#"tracing::info!("")"#,
    ] {
        assert!(problems(wrong) > 0, "{wrong}");
    }
    let event = events_of(r#"tracing::warn!(target: "t", model = key.0, %error, ?limit, path = %a.b(c, d), "m")"#);
    assert_eq!(event[0].fields, ["model", "error", "limit", "path"]);
}
