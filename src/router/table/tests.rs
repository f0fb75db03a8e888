use super::*;
use std::time::Duration;

use crate::{
    batcher::{Batcher, BatcherSettings, Compute, Instances, Levels},
    config::{ModelConfig, QueueTime},
    engine::RowProof,
    metrics::Exposition,
    router::Derived,
    tensor::{Signature, ZeroExtents},
    traffic::Weights,
};

/// A version that is ready, and runs nothing.
fn ready(version: u64) -> VersionEntry {
    let metrics = Exposition::new(&[]).version("m", version);
    let settings = BatcherSettings {
        rows_independent: false,
        shared_extents: Vec::new(),
        required_extents: Vec::new(),
        batched: false,
        open_axes: Vec::new(),
        max_batch_size: 1,
        max_queue_delay: Duration::ZERO,
        max_queue_size: 1,
        levels: Levels::new(&ModelConfig::default(), QueueTime::Auto),
        slots: 1,
        ran_at_load: true,
        inline_rows: 0,
        max_run_time: None,
    };
    let instances = Instances { compute: Vec::new(), inline: Vec::new() };
    let compute = Compute::start(1).unwrap();
    let batcher = Batcher::new("m", version, instances, settings, metrics.clone(), compute.clone());
    compute.stop();
    let no = || Err(String::new());
    VersionEntry::Ready(Arc::new(Version {
        model: "m".into(),
        version,
        number: version.to_string().into(),
        generation: 1,
        signature: Signature::new(Vec::new(), Vec::new(), Vec::new()),
        zero_extents: ZeroExtents::refused(&Signature::new(Vec::new(), Vec::new(), Vec::new()), ""),
        derived: Derived {
            rows_independent: false,
            rows_must_agree: false,
            row_proof: RowProof::default(),
            batching: no(),
            devices: Vec::new(),
            fallback: None,
            instances: 0,
            graphs: None,
            intra_op_threads: 1,
            in_place: no(),
            isolation: None,
        },
        load_time: Duration::ZERO,
        metrics,
        batcher,
    }))
}

/// A table with the model m: versions 1 to 3 are ready, 4 is loading, 5 retiring, 6 failed.
fn table(weights: &[(u64, f64)], aliases: &[(&str, u64)]) -> Table {
    let versions = [
        (1, ready(1)),
        (2, ready(2)),
        (3, ready(3)),
        (4, VersionEntry::Loading),
        (5, VersionEntry::Retiring),
        (6, VersionEntry::Failed("it is broken".into())),
    ];
    let weights = Weights::new(weights.iter().copied().collect()).unwrap();
    let aliases = aliases.iter().map(|(alias, version)| (alias.to_string(), *version)).collect();
    let routing = Routing { traffic: Traffic { weights, aliases }, key_headers: vec!["x-user".into()] };
    Table { models: [("m".to_owned(), ModelEntry::new(versions.into(), routing, None))].into(), ..Table::default() }
}

/// The version of a request that wants `selector`, with a key and a random number.
fn pick(table: &Table, selector: &str, key: Option<&str>, random: u64) -> Result<(u64, Reason), (Code, String)> {
    let selector = Selector::parse("m", selector).unwrap();
    let ticket = Ticket { key: key.map(str::as_bytes), random: &|| random, ..Ticket::default() };
    let picked = table.pick("m", &selector, &ticket);
    picked
        .map(|(version, reason)| (version.version, reason))
        .map_err(|error| (error.code(), error.message().to_owned()))
}

fn shown(table: &Table) -> Option<u64> {
    table.shown("m", &Selector::Any).ok().map(|version| version.version)
}

#[test]
fn default_route_is_stable_or_the_highest_version() {
    let highest = table(&[], &[("canary", 1)]);
    assert_eq!(pick(&highest, "", Some("key"), 0), Ok((3, Reason::Default)));
    assert_eq!((shown(&highest), [1, 3].map(|version| highest.models["m"].share(version))), (Some(3), [0.0, 1.0]));
    let stable = table(&[], &[("stable", 2)]);
    assert_eq!(pick(&stable, "", None, 0), Ok((2, Reason::Default)));
    assert_eq!((shown(&stable), [2, 3].map(|version| stable.models["m"].share(version))), (Some(2), [1.0, 0.0]));
    let broken = table(&[], &[("stable", 6)]);
    let message = "model 'm' version 6 (its stable version) is not ready: it is broken";
    assert_eq!(pick(&broken, "", None, 0), Err((Code::Unavailable, message.into())));
    assert_eq!((shown(&broken), broken.models["m"].share(6)), (None, 0.0));
}

#[test]
fn weighted_route_counts_ready_versions_by_ticket() {
    let table = table(&[(2, 3.0), (3, 1.0), (4, 90.0), (9, 5.0)], &[("stable", 1)]);
    assert_eq!(pick(&table, "", None, 0), Ok((2, Reason::Weighted)));
    assert_eq!(pick(&table, "", Some(""), u64::MAX), Ok((3, Reason::Weighted)));
    let (version, reason) = pick(&table, "", Some("user-1"), 0).unwrap();
    assert_eq!((version, reason), (2, Reason::Sticky));
    let shares: Vec<_> = (1..=9).map(|version| table.models["m"].share(version)).collect();
    assert_eq!(shares, [0.0, 0.75, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    // Beside weights stable is a name; metadata of a model is shown of it, all the same.
    assert_eq!(shown(&table), Some(1));
    assert_eq!(pick(&table, "stable", Some("user-1"), 0), Ok((1, Reason::Alias)));
}

#[test]
fn headers_and_chance_are_read_only_when_decisive() {
    let never = Ticket { key: None, header: &|name| panic!("{name}"), random: &|| panic!("chance") };
    let picked = |table: &Table, selector: &str| {
        let selector = Selector::parse("m", selector).unwrap();
        let (version, reason) = table.pick("m", &selector, &never).unwrap();
        (version.version, reason)
    };
    assert_eq!(picked(&table(&[], &[]), ""), (3, Reason::Default));
    assert_eq!(picked(&table(&[(2, 1.0), (3, 0.0), (4, 7.0)], &[]), ""), (2, Reason::Weighted));
    let split = table(&[(2, 1.0), (3, 1.0)], &[("canary", 3)]);
    assert_eq!(picked(&split, "1"), (1, Reason::Pinned));
    assert_eq!(picked(&split, "canary"), (3, Reason::Alias));
    let asked = std::cell::RefCell::new(Vec::new());
    let header = |name: &str| {
        asked.borrow_mut().push(name.to_owned());
        None
    };
    let ticket = Ticket { header: &header, ..Ticket::default() };
    assert_eq!(split.pick("m", &Selector::Any, &ticket).unwrap().1, Reason::Weighted);
    assert_eq!(*asked.borrow(), ["onnxd-routing-key", "x-user"]);
}

#[test]
fn metadata_version_is_stable_or_the_heaviest_ready() {
    assert_eq!(shown(&table(&[(1, 1.0), (2, 5.0), (3, 5.0)], &[("stable", 6)])), Some(2));
    assert_eq!(shown(&table(&[(4, 1.0)], &[("stable", 1)])), None);
}

#[test]
fn refusals_list_the_existing_versions() {
    let table = table(&[(4, 95.0), (3, 0.0), (9, 5.0)], &[("canary", 5), ("gone", 9)]);
    for (selector, code, expected) in [
        (
            "",
            Code::Unavailable,
            "model 'm' has no version that is ready and has weight: version 1 (weight 0) is ready; version 2 (weight 0) is \
             ready; version 3 (weight 0) is ready; version 4 (weight 95) is being loaded; version 5 (weight 0) is being \
             retired; version 6 (weight 0) is not ready: it is broken; there is no version 9 (weight 5)",
        ),
        ("4", Code::Unavailable, "model 'm' version 4 is not ready: it is being loaded"),
        ("5", Code::Unavailable, "model 'm' version 5 is not ready: it is being retired"),
        ("9", Code::NotFound, "model 'm' has no version 9; its versions are: 1, 2, 3, 4, 5, 6"),
        ("canary", Code::Unavailable, "model 'm' version 5 (its alias 'canary') is not ready: it is being retired"),
        (
            "gone",
            Code::Unavailable,
            "model 'm' has no version 9 (its alias 'gone'); its versions are: 1, 2, 3, 4, 5, 6",
        ),
        ("blue", Code::NotFound, "model 'm' has no alias 'blue'; its aliases are: canary, gone"),
    ] {
        assert_eq!(pick(&table, selector, Some("key"), 0), Err((code, expected.into())), "{selector}");
    }
    let empty = Table { models: [("m".to_owned(), ModelEntry::default())].into(), ..Table::default() };
    let message = "model 'm' has no version that is ready: its folder holds none";
    assert_eq!(pick(&empty, "", None, 0), Err((Code::Unavailable, message.into())));
    assert_eq!(pick(&empty, "x", None, 0).unwrap_err().1, "model 'm' has no alias 'x'; its aliases are: none");
}

#[test]
fn explanation_leaves_random_choices_open() {
    let split = table(&[(2, 3.0), (3, 1.0)], &[("canary", 1)]);
    let explain = |table: &Table, selector: &str, key: Option<&str>| {
        let explained = table.explain("m", &Selector::parse("m", selector).unwrap(), key.map(str::as_bytes)).unwrap();
        let shares: Vec<_> = explained.shares.into_iter().filter(|(_, share)| *share > 0.0).collect();
        (explained.version, explained.reason, shares)
    };
    let shares = vec![(2, 0.75), (3, 0.25)];
    assert_eq!(explain(&split, "", None), (None, Reason::Weighted, shares.clone()));
    assert_eq!(explain(&split, "", Some("")), (None, Reason::Weighted, shares.clone()));
    assert_eq!(explain(&split, "", Some("user-1")), (Some(2), Reason::Sticky, shares.clone()));
    assert_eq!(explain(&split, "canary", None), (Some(1), Reason::Alias, shares));
    assert_eq!(explain(&table(&[(2, 3.0)], &[]), "", Some("k")), (Some(2), Reason::Weighted, vec![(2, 1.0)]));
    assert_eq!(explain(&table(&[], &[]), "", None), (Some(3), Reason::Default, vec![(3, 1.0)]));
}
