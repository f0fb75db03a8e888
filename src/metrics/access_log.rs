use metrics::Counter;

/// What is counted of the access log.
#[derive(Debug, Clone)]
pub struct AccessLogMetrics {
    dropped: [Counter; Unlogged::ALL.len()],
}

/// Why a request has no line in the access log that should have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unlogged {
    /// As many lines waited to be written as may.
    Full,
    /// As many failed requests were told within the second as may be.
    Errors,
    /// It could not be written.
    Write,
}

impl Unlogged {
    const ALL: [Unlogged; 3] = [Unlogged::Full, Unlogged::Errors, Unlogged::Write];

    fn label(self) -> &'static str {
        match self {
            Unlogged::Full => "full",
            Unlogged::Errors => "errors",
            Unlogged::Write => "write",
        }
    }
}

impl AccessLogMetrics {
    /// Described to the recorder that is in scope.
    pub(super) fn new() -> Self {
        let name = "onnxd_access_log_dropped_total";
        metrics::describe_counter!(name, "Lines that the access log should have and has not, by reason.");
        AccessLogMetrics { dropped: Unlogged::ALL.map(|why| metrics::counter!(name, "reason" => why.label())) }
    }

    /// Counted nowhere.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        AccessLogMetrics { dropped: Unlogged::ALL.map(|_| Counter::noop()) }
    }

    /// So many requests have no line.
    pub fn unlogged(&self, why: Unlogged, lines: u64) {
        self.dropped[why as usize].increment(lines);
    }
}
