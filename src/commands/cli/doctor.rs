//! The command line of `onnxd doctor`.

use clap::Args;

use super::settings::Sources;

/// Text after the help of `onnxd doctor`: the JSON document, and examples.
pub(super) const MORE: &str = "\
With --json, one document: ok, onnxd, problems and warnings (how many), and findings: group, name,
level (ok, warning, problem), text, advice (where there is something to do), facts (an object for
scripts). Keys may be added.

Examples:
  onnxd doctor                                      would `onnxd serve` start here?
  onnxd doctor --config onnxd.toml --http off       and with these settings?
  onnxd doctor --json | jq '.findings[] | select(.level != \"ok\")'
  onnxd doctor --json | jq '.findings[] | select(.group == \"gpus\") | .facts'";

/// Command line of `onnxd doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print one JSON document, for scripts.
    #[arg(long)]
    pub json: bool,

    /// The settings.
    #[command(flatten)]
    pub sources: Sources,
}
