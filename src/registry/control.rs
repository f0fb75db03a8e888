//! What admin calls ask of the registry.

use std::{sync::Arc, time::Duration};
use tokio::sync::broadcast;

use super::status::{Event, ModelStatus};
use crate::{
    desired::{Change, Record, Terms},
    error::Result,
    router::Router,
};

/// The registry, as admin calls see it. Copies are the same registry.
#[derive(Clone)]
pub struct Control {
    /// Where the tables go; what explains which version a request would get.
    pub router: Arc<Router>,
}

/// What a change has led to.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The state's revision with the change.
    pub revision: u64,
    /// What was recorded.
    pub record: Record,
    /// The model now.
    pub model: ModelStatus,
    /// What is no reason to refuse the change, but may not be what was meant.
    pub warnings: Vec<String>,
}

impl Control {
    /// The desired state's revision.
    pub fn revision(&self) -> u64 {
        todo!()
    }

    /// Every model, by name.
    pub fn models(&self) -> Vec<ModelStatus> {
        todo!()
    }

    /// One model.
    ///
    /// # Errors
    /// There is no such model.
    pub fn model(&self, name: &str) -> Result<ModelStatus> {
        let _ = name;
        todo!()
    }

    /// Makes a change: it is durable, and requests that begin from now on go by it, when this returns. Loads go on after that.
    /// Blocks while the state is written.
    ///
    /// # Errors
    /// It can't be made, or can't be kept; nothing is changed then.
    pub fn change(&self, model: &str, change: Change, terms: Terms) -> Result<Changed> {
        let _ = (model, change, terms);
        todo!()
    }

    /// The last changes of a model, oldest first.
    ///
    /// # Errors
    /// There is no such model.
    pub fn history(&self, model: &str) -> Result<Vec<Record>> {
        let _ = model;
        todo!()
    }

    /// Every model's state as events, and then every change. Who falls behind gets `Lagged` and can begin anew.
    pub fn watch(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        todo!()
    }

    /// Waits until a version is ready; without one, until every version that is to be loaded is, and there is one.
    ///
    /// # Errors
    /// There is no such version, it fails to be loaded, nothing asks for it to be loaded, or it takes longer than that.
    pub async fn wait_ready(&self, model: &str, version: Option<u64>, limit: Duration) -> Result<ModelStatus> {
        let _ = (model, version, limit);
        todo!()
    }
}
