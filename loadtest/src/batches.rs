//! Mean batch size of a server, by its metrics.

use crate::{client, tally::Failure};

/// Counters of a server's metrics at a moment, over all its models.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batches {
    rows: f64,
    runs: f64,
}

impl Batches {
    /// Reads metrics as Triton names them: onnxd has these too.
    pub(crate) async fn scrape(url: &http::Uri) -> Result<Self, Failure> {
        let text = client::fetch(url).await?;
        let text = String::from_utf8_lossy(&text);
        let sum = |name: &str| {
            let lines =
                text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
            let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            values.reduce(|sum, value| sum + value)
        };
        match (sum("nv_inference_count"), sum("nv_inference_exec_count")) {
            (Some(rows), Some(runs)) => Ok(Batches { rows, runs }),
            _ => Err(Failure::answered(
                "bad metrics",
                format!("{url} has no nv_inference_count and nv_inference_exec_count"),
            )),
        }
    }

    /// Mean rows of the batches that ran since `earlier`.
    pub(crate) fn mean_since(self, earlier: Batches) -> Option<f64> {
        let runs = self.runs - earlier.runs;
        (runs > 0.0).then(|| (self.rows - earlier.rows) / runs)
    }
}
