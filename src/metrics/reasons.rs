//! Reasons why a request did not run, or why its run was stopped.

/// Reason why a request never ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The queue was full.
    QueueFull,
    /// The answer was predicted to come after the deadline.
    PredictedLate,
    /// The request waited, or was predicted to wait, longer than a request may.
    QueueTime,
    /// The deadline passed while the request waited, or would have passed during its run.
    Deadline,
    /// The client left while the request waited.
    Cancelled,
}

impl Rejection {
    /// Every reason, in the order of the declaration (so that `rejection as usize` is its index here).
    pub const ALL: [Rejection; 5] = [
        Rejection::QueueFull,
        Rejection::PredictedLate,
        Rejection::QueueTime,
        Rejection::Deadline,
        Rejection::Cancelled,
    ];

    /// Value of the metric label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Rejection::QueueFull => "queue_full",
            Rejection::PredictedLate => "predicted_late",
            Rejection::QueueTime => "queue_time",
            Rejection::Deadline => "deadline",
            Rejection::Cancelled => "cancelled",
        }
    }
}

/// Reason why a run was stopped before it had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The deadlines of all its requests passed.
    Deadline,
    /// All its clients left.
    Cancelled,
    /// The run took longer than the setting `max_run_time`.
    MaxRunTime,
    /// The run belongs to a load that was given up.
    LoadEnded,
}

impl StopReason {
    /// Every reason, in the order of the declaration (so that `reason as usize` is its index here).
    pub const ALL: [StopReason; 4] =
        [StopReason::Deadline, StopReason::Cancelled, StopReason::MaxRunTime, StopReason::LoadEnded];

    /// Value of the metric label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            StopReason::Deadline => "deadline",
            StopReason::Cancelled => "cancelled",
            StopReason::MaxRunTime => "max_run_time",
            StopReason::LoadEnded => "load",
        }
    }
}
