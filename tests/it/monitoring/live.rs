//! A real Prometheus scrapes a real onnxd that is under load and has canaries: one that fails, one that is slow, and others
//! that are neither.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;
use tokio::{task::JoinSet, time::MissedTickBehavior};

use super::dashboards::{self, Dashboard};
use crate::support::{
    client::{float_bytes, infer, inference, int64_bytes, raw_request, send},
    libraries, load, onnx,
    prometheus::{Prometheus, TIMES_FASTER, installed},
    server::{Server, WAIT_TIMEOUT, eventually, onnxd},
};
use onnxd::api::proto::ModelInferRequest;

/// Queries that rightly return nothing: nothing here is refused, and `slow`, for which dashboards are opened, fails nothing.
const EMPTY: [&str; 9] = [
    "canary | Requests that failed, by code A",
    "canary | Requests that failed, by code B",
    "canary | Requests that never ran A",
    "canary | Requests that never ran B",
    "fleet | Requests that never ran, and clients refused A",
    "fleet | Requests that never ran, and clients refused B",
    "fleet | Requests that never ran, and clients refused C",
    "model | Requests that failed, by code A",
    "model | Requests that never ran A",
];

/// The `number`th request to a model.
type Ask = fn(u64, i64) -> ModelInferRequest;

const MODELS: [(&str, Ask); 4] = [
    ("fails", |number, _| raw_request("fails", "x", "INT64", &[1, 1], int64_bytes(&[(number % 8) as i64]))),
    ("slow", |_, rounds| raw_request("slow", "iterations", "INT64", &[1, 1], int64_bytes(&[rounds]))),
    ("same", |_, _| raw_request("same", "x", "FP32", &[1, 2], float_bytes(&[0.0; 2]))),
    // A third of its clients ask wrongly, whichever version they get.
    ("wrong", |number, _| {
        let width = if number.is_multiple_of(3) { 3 } else { 2 };
        raw_request("wrong", "x", "FP32", &[1, width], float_bytes(&vec![0.0; width as usize]))
    }),
];

/// Canaries with a fifth of the requests or half of them, a version that can't be loaded, and a weight for one that there is not.
fn fill(repository: &Path) {
    let save = |graph: onnx::Graph, path: &str| graph.save(&repository.join(path));
    save(onnx::lookup_of(8), "fails/1/model.onnx");
    save(onnx::lookup_of(4), "fails/2/model.onnx");
    save(onnx::slow(), "slow/1/model.onnx");
    save(onnx::slower(8), "slow/2/model.onnx");
    for version in [1, 2] {
        save(onnx::add(1.0), &format!("same/{version}/model.onnx"));
        save(onnx::add(1.0), &format!("wrong/{version}/model.onnx"));
    }
    save(onnx::sequence(), "broken/1/model.onnx");
    for (model, weights) in
        [("fails", "1 = 80\n2 = 20"), ("same", "1 = 50\n2 = 50"), ("wrong", "1 = 80\n2 = 20\n9 = 1")]
    {
        let config = format!("[aliases]\nstable = 1\n[weights]\n{weights}\n");
        fs::write(repository.join(model).join("config.toml"), config).unwrap();
    }
}

/// Counts of clients: by model and version, or by model where they got an error.
type Counts = BTreeMap<(&'static str, Option<String>), u64>;

/// Clients that ask all models at a steady pace.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Counts>,
}

impl Load {
    async fn start(server: &Server, rounds: i64) -> Self {
        let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for (model, ask) in MODELS {
            let number = Arc::new(AtomicU64::new(0));
            for _ in 0..2 {
                let (client, stop, number) = (inference(server).await, stop.clone(), number.clone());
                tasks.spawn(async move {
                    let mut counts = Counts::new();
                    let mut pace = tokio::time::interval(Duration::from_millis(10));
                    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    while !stop.load(Relaxed) {
                        pace.tick().await;
                        let answer = infer(&client, ask(number.fetch_add(1, Relaxed), rounds)).await;
                        *counts.entry((model, answer.ok().map(|answer| answer.model_version))).or_default() += 1;
                    }
                    counts
                });
            }
        }
        Load { stop, tasks }
    }

    async fn end(self) -> Counts {
        self.stop.store(true, Relaxed);
        let mut all = Counts::new();
        for (key, count) in self.tasks.join_all().await.into_iter().flatten() {
            *all.entry(key).or_default() += count;
        }
        all
    }
}

/// The alerts of a kind that have fired at any time: name, model and version.
async fn fired(prometheus: &Prometheus, names: &str) -> BTreeSet<(String, String, String)> {
    let ever = format!("last_over_time(ALERTS{{alertname=~\"{names}\",alertstate=\"firing\"}}[1h])");
    let label = |labels: &BTreeMap<String, String>, name: &str| labels.get(name).cloned().unwrap_or_default();
    let alerts = prometheus.query(&ever).await.into_iter().map(|alert| alert.labels);
    alerts.map(|labels| (label(&labels, "alertname"), label(&labels, "model"), label(&labels, "version"))).collect()
}

fn alert(name: &str, model: &str, version: &str) -> (String, String, String) {
    (name.into(), model.into(), version.into())
}

/// When the server was last scraped.
async fn last_scrape(prometheus: &Prometheus) -> Option<f64> {
    Some(
        prometheus
            .query("timestamp(onnxd_requests_total{model=\"same\",version=\"1\",code=\"ok\"})")
            .await
            .first()?
            .value,
    )
}

/// A scrape of a time to come.
async fn next_scrape(prometheus: &Prometheus) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let mut scrape = 0.0;
    eventually("Prometheus scrapes", async || {
        scrape = last_scrape(prometheus).await.unwrap_or(0.0);
        scrape > now
    })
    .await;
    scrape
}

/// An admin call for `slow`.
async fn change(server: &Server, method: &str, what: &str, body: &'static str) {
    let uri = format!("http://{}/admin/v1/models/slow/{what}", server.admin);
    let request = http::Request::builder().method(method).uri(uri).body(body.into()).unwrap();
    let answer = send(request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_sees_a_canary_as_clients_do() {
    if !installed("prometheus_sees_a_canary_as_clients_do") {
        return;
    }
    let (repository, libraries) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fill(repository.path());
    // So that there is something to report of GPUs.
    libraries::driver(libraries.path());
    let mut command = onnxd();
    command.env("LD_LIBRARY_PATH", libraries.path());
    let server = Server::start_command(command, repository.path(), &[]);
    // By admin calls, whose answers show when.
    change(&server, "PUT", "aliases/stable", r#"{"version": 1}"#).await;
    let rounds = load::measure(&server).await.rounds_of(Duration::from_millis(1));
    change(&server, "PUT", "aliases/canary", r#"{"version": 2}"#).await;
    change(&server, "POST", "weights", r#"{"weights": {"1": 50, "2": 50}}"#).await;

    let prometheus = Prometheus::start(server.metrics);
    let begin = next_scrape(&prometheus).await;
    let load = Load::start(&server, rounds).await;
    let expected = BTreeSet::from([
        alert("OnnxdCanaryFails", "fails", "2"),
        alert("OnnxdCanarySlow", "slow", "2"),
        alert("OnnxdLoadFailed", "broken", "1"),
        alert("OnnxdNoReadyVersion", "broken", ""),
        alert("OnnxdWeightWithoutReadyVersion", "wrong", "9"),
    ]);
    for alert in &expected {
        eventually(&format!("{alert:?} fires"), async || fired(&prometheus, ".*").await.contains(alert)).await;
    }
    // Others have the time that they would need: a whole window, and to hold for a while.
    eventually("a window is full", async || {
        last_scrape(&prometheus).await.is_some_and(|scrape| scrape - begin > (5.0 + 3.0) * 60.0 / TIMES_FASTER as f64)
    })
    .await;
    // Weights have changed before it was scraped; here they change while it is.
    change(&server, "POST", "weights", r#"{"weights": {"1": 60, "2": 40}}"#).await;
    change(&server, "POST", "versions/1/reload", "").await;
    infer(&inference(&server).await, raw_request("none", "x", "FP32", &[1], vec![0; 4])).await.unwrap_err();
    eventually("the reload is seen", async || {
        !prometheus.query("increase(onnxd_version_loads_total{model=\"slow\"}[4s]) > 0").await.is_empty()
    })
    .await;

    let opened = dashboards::opened(&prometheus, "slow").await;
    assert_eq!((opened[2].chosen("stable"), opened[2].chosen("canary")), (Some("1"), Some("2")));
    all_queries_answer(&prometheus, &opened).await;
    all_rules_answer(&prometheus).await;

    let counts = load.end().await;
    let end = next_scrape(&prometheus).await;
    rates_agree(&prometheus, &counts, begin, end).await;
    // A request that is joined with one that fails is run again: a version that fails may be slow too. So may one that has less
    // traffic than stable, whose batch is more often the first of a turn: the other waits for it, for long without optimisation.
    let canaries = fired(&prometheus, "OnnxdCanary.*").await;
    let bad = |alert: &str, model: &str| match alert {
        "OnnxdCanarySlow" => model != "same",
        _ => model == "fails",
    };
    assert!(canaries.iter().all(|(alert, model, version)| bad(alert, model) && version == "2"), "{canaries:?}");
    // The speed of a request or a scrape depends on the machine; all else does not.
    let fired: BTreeSet<_> = fired(&prometheus, ".*").await;
    let others: Vec<_> = fired
        .difference(&expected)
        .filter(|(name, ..)| !["OnnxdCanarySlow", "OnnxdDown", "OnnxdLatencyBudgetBurn"].contains(&&**name))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}

/// (A scrape that comes late, as on a busy machine, leaves nothing to ask for a moment.)
async fn all_queries_answer(prometheus: &Prometheus, opened: &[Dashboard]) {
    let queries: Vec<_> = opened.iter().flat_map(Dashboard::queries).collect();
    assert!(queries.len() > 80, "{}", queries.len());
    let (expected, since) = (EMPTY.map(String::from).into(), Instant::now());
    loop {
        let mut empty = BTreeSet::new();
        for query in &queries {
            let expression = query.expression.replace("$__rate_interval", "1m");
            assert!(!expression.contains('$'), "{}: {expression}", query.place);
            if prometheus.query(&expression).await.is_empty() {
                empty.insert(query.place.clone());
            }
        }
        if empty == expected {
            return;
        }
        assert!(since.elapsed() < WAIT_TIMEOUT, "what is empty: {empty:#?}");
    }
}

/// Rules are well, recorded names have series, and every selector of an alert selects something.
async fn all_rules_answer(prometheus: &Prometheus) {
    let rules = prometheus.rules().await;
    assert!(rules.len() > 40, "{}", rules.len());
    for rule in rules {
        let (name, query) = (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap());
        assert_eq!((&rule["health"], rule.get("lastError")), (&"ok".into(), None), "{rule}");
        if rule["type"] == "recording" {
            eventually(&format!("{name} is recorded"), async || !prometheus.query(name).await.is_empty()).await;
        }
        let selectors = selectors(query);
        assert!(!selectors.is_empty(), "{query}");
        for selector in selectors {
            let what = format!("{name}: something has {selector}");
            eventually(&what, async || !prometheus.query(selector).await.is_empty()).await;
        }
    }
}

/// The selectors of an expression: names of metrics, with labels where it says some.
fn selectors(expression: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = expression;
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == ':';
    while let Some(begin) = rest.find(is_name) {
        rest = &rest[begin..];
        let name = rest.find(|character| !is_name(character)).unwrap_or(rest.len());
        let labels = if rest[name..].starts_with('{') { rest[name..].find('}').unwrap() + 1 } else { 0 };
        let (selector, after) = rest.split_at(name + labels);
        if selector[..name].contains("onnxd") || ["up", "process_start_time_seconds"].contains(&&selector[..name]) {
            found.push(selector);
        }
        rest = after;
    }
    found
}

/// Over exactly the time from a scrape before the load to one after it, what panels and rules show is what clients counted.
async fn rates_agree(prometheus: &Prometheus, counts: &Counts, begin: f64, end: f64) {
    let window = format!("{:.0}ms", (end - begin) * 1000.0 + 1.0);
    let total =
        |model: &str| counts.iter().filter(|((of, _), _)| *of == model).map(|(_, count)| count).sum::<u64>() as f64;
    let of =
        |model, version: Option<&str>| counts.get(&(model, version.map(String::from))).copied().unwrap_or(0) as f64;
    let agree = |what: String, reported: f64, counted: f64| {
        assert!(counted > 100.0, "{what}: only {counted} were counted");
        assert!((reported / counted - 1.0).abs() < 0.02, "{what}: Prometheus {reported}, clients {counted}");
    };
    for (model, _) in MODELS {
        for dashboard in dashboards::opened(prometheus, model).await {
            for query in dashboard.queries() {
                let in_window = query.expression.replace("$__rate_interval", &window);
                let requests = prometheus.query_at(&in_window, end);
                let place = format!("{} of {model}", query.place);
                match &*query.place {
                    "canary | Requests A" if model != "wrong" => {
                        let samples = requests.await;
                        let expected = of(model, Some("1"));
                        agree(place, samples[0].value * (end - begin), expected);
                    }
                    "model | Requests by version A" => {
                        let reported: f64 = requests.await.iter().map(|sample| sample.value).sum();
                        agree(place, reported * (end - begin), total(model));
                    }
                    "fleet | Requests by model A" => {
                        let reported =
                            requests.await.into_iter().find(|sample| sample.labels["model"] == model).unwrap();
                        agree(place, reported.value * (end - begin), total(model));
                    }
                    "model | Failed A" if of(model, None) > 0.0 => {
                        agree(place, requests.await[0].value * total(model), of(model, None));
                    }
                    _ => {}
                }
            }
        }
    }
    let rules = prometheus.rules().await;
    let rate = rules.iter().find(|rule| rule["name"] == "job_model_version:onnxd_requests:rate5m").unwrap();
    let rate = rate["query"].as_str().unwrap().replace("[10s]", &format!("[{window}]"));
    for sample in prometheus.query_at(&rate, end).await {
        let (model, version) = (&*sample.labels["model"], &*sample.labels["version"]);
        if let Some((known, _)) = MODELS.iter().find(|(known, _)| *known == model && ["same", "slow"].contains(known)) {
            agree(format!("{model} {version} as recorded"), sample.value * (end - begin), of(known, Some(version)));
        }
    }
    // Counters themselves agree to the last request.
    for ((model, version), count) in counts {
        let (label, code) = match version {
            Some(version) => (format!("version=\"{version}\","), "="),
            None => (String::new(), "!="),
        };
        let selector = format!("onnxd_requests_total{{model=\"{model}\",{label}code{code}\"ok\"}}");
        let reported = prometheus.sum_at(&selector, end).await - prometheus.sum_at(&selector, begin).await;
        assert_eq!(reported, *count as f64, "{selector}");
    }
}
