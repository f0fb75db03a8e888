//! Why a run or a load got no memory, in words for clients.

use crate::{
    config::{ByteSize, rounded},
    error::{Code, Error},
};

/// Why there was no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum AllocationRefusal {
    /// The run would have held more than one run may.
    Run {
        /// Bytes of the block that was refused.
        asked: usize,
        /// Bytes that the run held.
        held: usize,
        /// Bytes that a run may hold.
        limit: usize,
    },
    /// All sessions together would have held more than the process may.
    Process {
        /// Bytes of the block that was refused.
        asked: usize,
        /// Bytes that weights and runs may hold together.
        limit: usize,
    },
    /// The operating system has no memory.
    System {
        /// Bytes of the block that was refused.
        asked: usize,
    },
}

impl AllocationRefusal {
    /// The client's error. `words` are ONNX Runtime's, which name the operator and its node.
    pub(in crate::engine) fn error(self, words: &str) -> Error {
        Error::new(Code::ResourceExhausted, format!("{}{}", self.reason(), node(words)))
    }

    /// The reason alone.
    pub(in crate::engine) fn reason(self) -> String {
        match self {
            AllocationRefusal::Run { asked, held, limit } => format!(
                "the run needs {} more for a tensor and holds {}; a run may hold {} (max_run_memory in the model's config.toml, \
                 --max-run-memory)",
                size(asked),
                size(held),
                ByteSize(limit)
            ),
            AllocationRefusal::Process { asked, limit } => format!(
                "the run needs {} more for a tensor, and the models and runs of this server may hold {} together (the memory of \
                 the process less --request-memory); try again later, or send less",
                size(asked),
                size(limit)
            ),
            AllocationRefusal::System { asked } => {
                format!("the run needs {} more for a tensor, and the operating system has no memory", size(asked))
            }
        }
    }
}

/// A size as people read it.
fn size(bytes: usize) -> String {
    rounded(bytes as u64)
}

/// "; in the Expand node 'name'", if the words of ONNX Runtime name a node.
fn node(words: &str) -> String {
    let find = || {
        let (_, rest) = words.split_once("while running ")?;
        let (operator, rest) = rest.split_once(" node. Name:'")?;
        let (name, _) = rest.split_once("' Status Message:")?;
        Some((operator, name))
    };
    match find() {
        None => String::new(),
        Some((operator, "")) => format!("; in its {operator} node"),
        Some((operator, name)) => format!("; in its {operator} node '{name}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_sizes_settings_and_the_node() {
        let words =
            "Non-zero status code returned while running Expand node. Name:'grow' Status Message: std::bad_alloc";
        let refusal = AllocationRefusal::Run { asked: 3 << 30, held: 1 << 20, limit: 1 << 30 };
        let error = refusal.error(words);
        assert_eq!(error.code(), Code::ResourceExhausted);
        for part in
            ["needs 3.0 GiB", "holds 1.0 MiB", "hold 1GiB", "max_run_memory", "--max-run-memory", "Expand node 'grow'"]
        {
            assert!(error.message().contains(part), "{error}");
        }
        assert!(!refusal.error("something else").message().contains("node"));
    }
}
