//! A real Prometheus with the configuration of `deploy/prometheus`, whose clock is made to run faster, and its promtool.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};
use tempfile::TempDir;

use super::client::get;

/// Factor by which it evaluates and forgets faster than with the files as they are.
pub const TIMES_FASTER: u64 = 30;

/// The folder with its configuration and rules.
pub fn configuration() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

/// True if Prometheus and promtool are there. Where they are not the test is skipped by name, or fails where
/// `ONNXD_TEST_REQUIRE` is set.
pub fn installed(test: &str) -> bool {
    let runs = |program: &str| Command::new(program).arg("--version").output();
    match runs("prometheus").and(runs("promtool")) {
        Ok(_) => true,
        Err(why) => {
            assert!(std::env::var_os("ONNXD_TEST_REQUIRE").is_none(), "{test} needs prometheus and promtool: {why}");
            let _ = writeln!(io::stderr(), "SKIPPED {test}: prometheus and promtool: {why}");
            false
        }
    }
}

/// A running Prometheus; killed when dropped.
pub struct Prometheus {
    child: Child,
    _folder: TempDir,
    address: SocketAddr,
}

/// A value with its labels.
#[derive(Debug)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Prometheus {
    /// Starts one that scrapes this address.
    pub fn start(scraped: SocketAddr) -> Self {
        let folder = TempDir::new().unwrap();
        let text = |name: &str| fs::read_to_string(configuration().join(name)).unwrap();
        let settings = text("prometheus.yml").replace("onnxd:8002", &scraped.to_string());
        // A scrape may take no longer than the time between two, and a busy machine needs more of it.
        let settings = faster(&settings).replace("scrape_interval: 500ms", "scrape_interval: 2s");
        assert!(
            settings.contains("scrape_interval: 2s") && settings.contains("evaluation_interval: 500ms"),
            "{settings}"
        );
        fs::write(folder.path().join("prometheus.yml"), settings).unwrap();
        fs::create_dir(folder.path().join("rules")).unwrap();
        for name in ["rules/alerts.yml", "rules/recording.yml"] {
            fs::write(folder.path().join(name), faster(&text(name))).unwrap();
        }
        let mut child = Command::new("prometheus")
            .current_dir(folder.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let (mut address, mut said) = (None, Vec::new());
        // It listens before it is ready to answer.
        let is_ready = log.by_ref().any(|line| {
            if let Some((_, listening)) = line.split_once("msg=\"Listening on\"") {
                address = listening.split_whitespace().find_map(|word| word.strip_prefix("address=")?.parse().ok());
            }
            let is_ready = line.contains("Server is ready to receive web requests");
            said.push(line);
            is_ready
        });
        let address = address.filter(|_| is_ready);
        let address = address.unwrap_or_else(|| panic!("Prometheus did not start:\n{}", said.join("\n")));
        // It must not wait for a reader.
        thread::spawn(move || log.for_each(drop));
        Prometheus { child, _folder: folder, address }
    }

    /// Value of an expression now.
    pub async fn query(&self, expression: &str) -> Vec<Sample> {
        self.ask(&format!("query?query={}", encoded(expression)), expression).await
    }

    /// Value of an expression at a time, in seconds since the Unix epoch.
    pub async fn query_at(&self, expression: &str, time: f64) -> Vec<Sample> {
        self.ask(&format!("query?time={time:.3}&query={}", encoded(expression)), expression).await
    }

    /// The sum of an expression's values at a time.
    pub async fn sum_at(&self, expression: &str, time: f64) -> f64 {
        self.query_at(expression, time).await.iter().map(|sample| sample.value).sum()
    }

    /// The values of a label over the series that a selector selects.
    pub async fn label_values(&self, selector: &str, label: &str) -> Vec<String> {
        let found = self.query(&format!("count by ({label}) ({selector})")).await;
        found.into_iter().filter_map(|mut sample| sample.labels.remove(label)).collect()
    }

    /// All rules, in the order of their groups.
    pub async fn rules(&self) -> Vec<Value> {
        let data = self.data("rules", "rules").await;
        let groups = data["groups"].as_array().unwrap().iter();
        groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    async fn ask(&self, path: &str, expression: &str) -> Vec<Sample> {
        let mut data = self.data(path, expression).await;
        let is_scalar = data["resultType"] == "scalar";
        let result = data["result"].take();
        if is_scalar {
            return vec![Sample { labels: BTreeMap::new(), value: number(&result[1]) }];
        }
        let sample = |sample: Value| Sample {
            labels: serde_json::from_value(sample["metric"].clone()).unwrap(),
            value: number(&sample["value"][1]),
        };
        let Value::Array(samples) = result else { panic!("{expression}: {result}") };
        samples.into_iter().map(sample).collect()
    }

    async fn data(&self, path: &str, what: &str) -> Value {
        let mut answer = get(self.address, &format!("/api/v1/{path}")).await.json();
        assert_eq!(answer["status"], "success", "{what}: {answer}");
        answer["data"].take()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn number(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

/// A configuration, or rules, or a query, with all durations divided.
pub fn faster(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    let starts = ["[", "for: ", "_interval: "];
    let next = |text: &str| starts.iter().filter_map(|start| Some(text.find(start)? + start.len())).min();
    while let Some(begin) = next(rest) {
        out.push_str(&rest[..begin]);
        rest = &rest[begin..];
        let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(0);
        let seconds = match rest.as_bytes().get(digits) {
            _ if digits == 0 => continue,
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3600,
            Some(b'd') => 86_400,
            _ => continue,
        };
        let number: u64 = rest[..digits].parse().unwrap();
        out.push_str(&format!("{}ms", number * seconds * 1000 / TIMES_FASTER));
        rest = &rest[digits + 1..];
    }
    out + rest
}
