//! The commands and their options.

use clap::{Args, Parser, Subcommand};
use std::{path::PathBuf, str::FromStr, time::Duration};

use crate::{
    load::{Level, Spacing},
    target::Target,
};

/// Load generator and benchmark for servers of the Open Inference Protocol: onnxd, Triton, MLServer, KServe and others.
///
/// A target is a URL: SCHEME://HOST:PORT/MODEL, where SCHEME is grpc, http (binary tensors) or http+json, with ?version=2,
/// rows=4 (extent of open first axes) and weight=3 (share in a mix) behind it where wanted. Requests are made up from the
/// model's metadata.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Loads a server and reports: throughput, latencies, errors, the server's CPU time.
    ///
    /// Examples:
    ///   loadtest run grpc://localhost:8001/simple --clients 1,16,64
    ///   loadtest run http+json://localhost:8000/simple --rate 100..1000 --limit 50ms --html report.html
    #[command(verbatim_doc_comment)]
    Run(Run),
    /// Measures two targets in turns (A B B A ...) and reports their ratios with confidence intervals.
    Compare(Compare),
    /// Serves the answers of another server without inference: what a transport alone costs.
    ///
    /// A tonic server answers gRPC, a hyper server HTTP/1.1, as a server of these libraries would that had nothing to
    /// compute. Metadata and answers are taken from the targets when it starts.
    Echo(Echo),
    /// Runs a model by ONNX Runtime in this process, over batch sizes and threads: what inference alone costs.
    Raw(Raw),
}

#[derive(Args)]
pub(crate) struct Run {
    /// Targets of the requests; several make a mix.
    #[arg(required = true)]
    pub targets: Vec<Target>,
    #[command(flatten)]
    pub load: Load,
    /// Prints the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Writes the report with charts to this file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Compare {
    /// Target that is measured.
    pub a: Target,
    /// Target that A is measured against: ratios are those of A to B.
    pub b: Target,
    #[command(flatten)]
    pub load: Load,
    /// Number of times that each is measured.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..))]
    pub rounds: u32,
    /// Prints every round and the ratios as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Requests that are sent, and their number.
#[derive(Args)]
pub(crate) struct Load {
    /// Closed loop: clients, each of which sends its next request when it has the answer to the last. Several numbers
    /// (1,16,64) are measured one after the other; a range (1..64) grows over the time that is measured [default: 1]
    #[arg(long, value_name = "N|N,N|N..N", conflicts_with = "rate")]
    pub clients: Option<Ramps<usize>>,
    /// Open loop: requests per second that are due, whatever becomes of the earlier ones; steps and ramps as with
    /// --clients. Latency counts from when a request was due.
    #[arg(long, value_name = "R|R,R|R..R")]
    pub rate: Option<Ramps<f64>>,
    /// Spacing of the requests of an open loop.
    #[arg(long, value_enum, default_value = "poisson", value_name = "SPACING")]
    pub arrivals: Spacing,
    /// Connections to each target [default: 4 over gRPC, over HTTP one for each client, 256 with --rate].
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// Time for which each number of clients or rate is measured.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Time for which the load runs before it is measured.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub warm_up: Duration,
    /// Time that an answer may take; later is a failure.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Goodput: counts the requests that are answered within this time.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub limit: Option<Duration>,
    /// Deadline that every request carries, as the protocol's parameter `timeout`: a server may refuse what it can't answer in
    /// time. It is also the limit of goodput, unless --limit gives another.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub deadline: Option<Duration>,
    /// Requests from files instead of made-up ones: bodies as over HTTP, in JSON, or test cases of a version, whose outputs
    /// are then expected.
    #[arg(long, value_name = "FILE")]
    pub input: Vec<PathBuf>,
    /// Shape of a made-up input whose axes the model leaves open.
    #[arg(long, value_name = "NAME=N,N", value_parser = shape)]
    pub shape: Vec<(String, Vec<usize>)>,
    /// Takes any answer for right. Otherwise each is held against the first one to the same request.
    #[arg(long)]
    pub no_check: bool,
    /// Threads that send [default: one per CPU, and not more than connections]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Requests under way at once in an open loop; requests that are due beyond are counted as not sent.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub max_open: usize,
    /// Metrics of the server, for the mean batch: nv_inference_count and nv_inference_exec_count, as onnxd and Triton have
    /// them.
    #[arg(long, value_name = "URL")]
    pub metrics: Option<http::Uri>,
    /// Seed of made-up inputs, choices and arrivals.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Args)]
pub(crate) struct Echo {
    /// Targets whose answers are served.
    #[arg(required = true)]
    pub like: Vec<Target>,
    /// Address for gRPC.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub grpc: std::net::SocketAddr,
    /// Address for HTTP/1.1.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub http: std::net::SocketAddr,
    /// Shape of a made-up input whose axes the model leaves open.
    #[arg(long, value_name = "NAME=N,N", value_parser = shape)]
    pub shape: Vec<(String, Vec<usize>)>,
}

#[derive(Args)]
pub(crate) struct Raw {
    /// An ONNX model.
    pub model: PathBuf,
    /// Rows of a batch.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64")]
    pub rows: Vec<usize>,
    /// Threads of ONNX Runtime within a run.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub threads: Vec<usize>,
    /// Time for which each batch size is run.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Shape of an input whose axes the model leaves open.
    #[arg(long, value_name = "NAME=N,N", value_parser = shape)]
    pub shape: Vec<(String, Vec<usize>)>,
    /// Prints the figures as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Steps, each from a number to a number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ramps<T>(Vec<(T, T)>);

impl<T: FromStr + Copy + PartialOrd + Default> FromStr for Ramps<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let number = text.trim().parse().ok().filter(|number| *number > T::default());
            number.ok_or_else(|| format!("'{text}' is no positive number"))
        };
        let step = |text: &str| match text.split_once("..") {
            Some((from, to)) => Ok((number(from)?, number(to)?)),
            None => number(text).map(|number| (number, number)),
        };
        text.split(',').map(step).collect::<Result<_, _>>().map(Ramps)
    }
}

impl Load {
    /// Longest latency of an answer that counts as goodput.
    pub(crate) fn goodput_limit(&self) -> Option<Duration> {
        self.limit.or(self.deadline)
    }

    /// Levels that are measured, one after the other.
    pub(crate) fn levels(&self) -> Vec<Level> {
        match (&self.rate, &self.clients) {
            (Some(Ramps(rates)), _) => {
                rates.iter().map(|&(from, to)| Level::Open { from, to, spacing: self.arrivals }).collect()
            }
            (None, Some(Ramps(clients))) => clients.iter().map(|&(from, to)| Level::Closed { from, to }).collect(),
            (None, None) => vec![Level::Closed { from: 1, to: 1 }],
        }
    }
}

fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    // Names may hold anything, numbers don't.
    let (name, extents) = text.rsplit_once('=').ok_or("expected NAME=N,N")?;
    let extent = |extent: &str| extent.trim().parse().map_err(|_| format!("'{extent}' is no extent"));
    Ok((name.to_owned(), extents.split(',').map(extent).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn options_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ramps_and_shapes_parse() {
        assert_eq!("1,16,2..64".parse(), Ok(Ramps(vec![(1, 1), (16, 16), (2, 64)])));
        assert_eq!("0.5".parse(), Ok(Ramps(vec![(0.5, 0.5)])));
        for wrong in ["", "0", "-1", "a", "1..", "1,,2", "NaN"] {
            assert!(wrong.parse::<Ramps<f64>>().is_err(), "{wrong}");
        }
        assert_eq!(shape("a=b=1, 2"), Ok(("a=b".into(), vec![1, 2])));
        assert!(shape("a").is_err() && shape("a=x").is_err());
    }
}
