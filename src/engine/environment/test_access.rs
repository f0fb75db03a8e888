//! An engine with another setup of providers, for tests.

use super::{Engine, ProviderSetup};

impl Engine {
    /// The same engine with this setup of providers.
    pub(in crate::engine) fn with_providers(self, providers: ProviderSetup) -> Self {
        Engine { providers, ..self }
    }
}
