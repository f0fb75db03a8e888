//! Watch calls: a stream of events until the server drains.

use futures_util::{Stream, stream};
use std::collections::VecDeque;
use tokio::sync::{
    OwnedSemaphorePermit,
    broadcast::{Receiver, error::RecvError},
};

use super::{
    backend::{Admin, draining},
    convert::{event, time},
};
use crate::{
    api::proto::admin::{Event, WatchRequest},
    clock,
    error::Result,
    registry,
};

/// The state of every model, or of one, and then every change.
///
/// # Errors
/// There is no such model, or no place for another that watches.
pub(super) async fn events(admin: Admin, request: WatchRequest) -> Result<impl Stream<Item = Event> + Send> {
    let place = admin.long_call()?;
    let model = request.model;
    if !model.is_empty() {
        let name = model.clone();
        admin.run_blocking(move |control| control.model(&name)).await??;
    }
    let mut watcher = EventWatcher { admin, model, pending: VecDeque::new(), news: None, _place: place };
    watcher.begin("the state comes first".into()).await?;
    Ok(stream::unfold(watcher, async |mut watcher| Some((watcher.next().await?, watcher))))
}

struct EventWatcher {
    admin: Admin,
    /// The only model that is watched; empty: all are.
    model: String,
    /// Events that are to be sent next.
    pending: VecDeque<Event>,
    /// Where changes come from.
    news: Option<Receiver<registry::Event>>,
    _place: OwnedSemaphorePermit,
}

impl EventWatcher {
    async fn next(&mut self) -> Option<Event> {
        let draining = draining(self.admin.phase.clone());
        tokio::select! {
            biased;
            () = draining => None,
            event = self.event() => event,
        }
    }

    async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            match self.news.as_mut()?.recv().await {
                Ok(news) if self.wants(&news) => return Some(event(news)),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    let why = format!("the client is too slow and has missed {missed} events: the state comes anew");
                    self.begin(why).await.ok()?;
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Sends the state, and then what changes from there on.
    async fn begin(&mut self, why: String) -> Result<()> {
        let (revision, (state, news)) =
            self.admin.run_blocking(|control| (control.revision(), control.watch())).await?;
        let mark = |kind: &str, reason: String| Event {
            kind: kind.into(),
            time: time(clock::now()),
            revision,
            reason,
            ..Event::default()
        };
        self.pending = [mark("begin", why)].into();
        let wanted = state.into_iter().filter(|event| self.wants(event)).collect::<Vec<_>>();
        self.pending.extend(wanted.into_iter().map(event));
        self.pending.push_back(mark("current", String::new()));
        self.news = Some(news);
        Ok(())
    }

    fn wants(&self, event: &registry::Event) -> bool {
        self.model.is_empty() || self.model == event.model
    }
}
