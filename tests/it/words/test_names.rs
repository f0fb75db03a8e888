//! Names of tests begin with their subject, so that a search for the subject finds them.

use super::sources;

/// First words that hide the subject: articles, pronouns, quantities, prepositions, conjunctions.
const LEADING_STOP_WORDS: [&str; 62] = [
    "a", "an", "the", "this", "that", "these", "those", "it", "its", "they", "their", "there", "what", "who", "whose",
    "whom", "which", "how", "whether", "whatever", "whoever", "why", "when", "where", "while", "if", "so", "too",
    "than", "not", "never", "only", "any", "each", "every", "all", "both", "one", "two", "several", "many", "few",
    "more", "most", "some", "no", "nothing", "none", "of", "with", "without", "in", "on", "at", "by", "as", "for",
    "from", "to", "over", "under", "between",
];

/// Words that stand in for a subject, or for the verb: report, reject, log, show.
const STOP_WORDS: [&str; 13] =
    ["tell", "tells", "told", "say", "says", "said", "look", "looks", "looked", "what", "who", "whoever", "whatever"];

/// Tests that the sources have at least: fewer were not found.
const MIN_TESTS: usize = 700;

/// Names of the tests that a source defines.
fn test_names(text: &str) -> Vec<&str> {
    let (mut names, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim_start) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let Some(function) = function.filter(|_| is_test) {
            names.extend(function.split(|character: char| !character.is_alphanumeric() && character != '_').next());
            is_test = false;
        }
    }
    names
}

fn is_subject_first(name: &str) -> bool {
    let words: Vec<_> = name.split('_').collect();
    words.len() > 1 && !LEADING_STOP_WORDS.contains(&words[0]) && !words.iter().any(|word| STOP_WORDS.contains(word))
}

#[test]
fn test_names_begin_with_their_subject() {
    let (mut count, mut wrong) = (0, Vec::new());
    for (path, text) in sources() {
        let names = test_names(&text);
        count += names.len();
        let found = names.iter().filter(|name| !is_subject_first(name));
        wrong.extend(found.map(|name| format!("{}: {name}", path.display())));
    }
    assert!(count > MIN_TESTS, "only {count} tests were found");
    assert!(wrong.is_empty(), "begin with the subject, then an active verb and the result: {wrong:#?}");
}

#[test]
fn reader_of_test_names_sees_every_form() {
    let text = "#[test]\nfn plain_form() {}\n  #[tokio::test(x)]\n  /// T.\n  async fn async_form() {}\nfn helper() {}";
    assert_eq!(test_names(text), ["plain_form", "async_form"]);
    assert!(is_subject_first("queue_drops_expired_jobs"));
    for wrong in ["the_queue_drops_expired_jobs", "queue_tells_the_cause", "queue_drops_what_expired", "queue"] {
        assert!(!is_subject_first(wrong), "{wrong}");
    }
}
