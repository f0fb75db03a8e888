/// Why a loaded version can serve no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The cause and the way out, for people. It follows "model 'm' version 1 is out of service: ".
    pub why: String,
    /// True if the version is quarantined: only an admin call or other files load it again. Otherwise it is reloaded with
    /// back-off.
    pub is_final: bool,
}

impl Lost {
    /// A version that would fail in the same way again.
    pub fn for_good(why: impl Into<String>) -> Self {
        Lost { why: why.into(), is_final: true }
    }

    /// A version that may serve again once it is loaded again.
    pub fn for_now(why: impl Into<String>) -> Self {
        Lost { why: why.into(), is_final: false }
    }
}
