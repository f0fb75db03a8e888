//! Admission of connections: the limits of all clients and of one, and the eviction of idle connections for new ones.
//!
//! Where no connection is idle, a few more are admitted for health checks alone: a full server must not look like a dead one.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::activity::ConnectionActivity;
use crate::metrics::{Closed, ExceededLimit, TransportMetrics};

/// Connections beyond the limit that are admitted for health checks, of all clients and of one.
const HEALTH_PLACES: usize = 64;
const HEALTH_PLACES_OF_CLIENT: usize = 16;

/// Evicted connections that are not closed yet, at most. That many may be open beyond the limit.
const MAX_CLOSING: usize = 64;

/// Descriptors that connections may take beyond the limit.
pub(super) const BEYOND_LIMIT: u64 = (HEALTH_PLACES + MAX_CLOSING) as u64;

/// Time that a connection has to be idle before it may be evicted: an active client sends its next request sooner.
const MIN_IDLE: Duration = Duration::from_secs(1);

/// Idle connections that one search finds at most, and the pause after a search that finds none.
const MAX_FOUND: usize = 64;
const SEARCH_PAUSE: Duration = Duration::from_millis(100);

/// Least time between two warnings that connections are refused.
const WARNING_PAUSE: Duration = Duration::from_secs(10);

/// Connections that may be open at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimitConfig {
    /// Limit of all clients.
    pub total: usize,
    /// Limit of one address.
    pub per_client: usize,
    /// True if a few more connections are admitted for health checks.
    pub health: bool,
}

/// Limit of the connections of one port, or of several ports together.
pub(super) struct ConnectionLimit {
    limits: ConnectionLimitConfig,
    /// Counters of the connections, if they are counted.
    metrics: Option<TransportMetrics>,
    state: Mutex<ConnectionTable>,
}

/// Reason why a connection has no regular place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The limit of all clients is reached.
    Total(usize),
    /// The limit of the client's address is reached.
    Client(usize),
}

/// Outcome of admitting a new connection.
pub(super) enum ConnectionAdmission {
    /// A place.
    ConnectionPermit(ConnectionPermit),
    /// A place for health checks only.
    HealthOnly(ConnectionPermit, Full),
    /// No place: the connection is closed.
    Refused,
}

/// The place of a connection, until it is dropped.
pub(super) struct ConnectionPermit {
    places: Arc<ConnectionLimit>,
    id: u64,
}

#[derive(Default)]
struct ConnectionTable {
    connections: HashMap<u64, Connection>,
    next: u64,
    /// Number of connections of each use, and of each client and use.
    counts: HashMap<(Use, Option<IpAddr>), usize>,
    /// Idle connections that the last search found, the longest idle last, and the client that the search was limited to.
    found: Vec<u64>,
    found_for: Option<IpAddr>,
    searched_in_vain: Option<Instant>,
    warned: Option<Instant>,
}

struct Connection {
    client: IpAddr,
    placed: Use,
    activity: Arc<ConnectionActivity>,
}

/// Use that a connection is counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Use {
    Usual,
    Health,
    /// The connection has been evicted, and is not closed yet.
    Closing,
}

impl ConnectionLimit {
    pub(super) fn new(limits: ConnectionLimitConfig, metrics: Option<TransportMetrics>) -> Arc<Self> {
        Arc::new(ConnectionLimit { limits, metrics, state: Mutex::default() })
    }

    pub(super) fn limits(&self) -> ConnectionLimitConfig {
        self.limits
    }

    /// Admits a connection of a client, if there is room or if an idle connection can be evicted.
    pub(super) fn admit(
        places: &Arc<ConnectionLimit>,
        client: IpAddr,
        activity: &Arc<ConnectionActivity>,
    ) -> ConnectionAdmission {
        let client = network(client);
        activity.rest();
        let mut state = places.state();
        let full = places.make_room(&mut state, client);
        let placed = match full {
            None => Use::Usual,
            Some(full) => {
                places.refuse(&mut state, full);
                let free = state.count(Use::Health, None) < HEALTH_PLACES
                    && state.count(Use::Health, Some(client)) < HEALTH_PLACES_OF_CLIENT;
                if !places.limits.health || !free {
                    return ConnectionAdmission::Refused;
                }
                Use::Health
            }
        };
        state.next += 1;
        let id = state.next;
        state.add(placed, client);
        state.connections.insert(id, Connection { client, placed, activity: activity.clone() });
        drop(state);
        if let Some(metrics) = &places.metrics {
            metrics.opened();
        }
        let place = ConnectionPermit { places: places.clone(), id };
        match full {
            None => ConnectionAdmission::ConnectionPermit(place),
            Some(full) => ConnectionAdmission::HealthOnly(place, full),
        }
    }

    /// Evicts an idle connection for a new one of a client if that is needed. Returns the limit that is reached if that fails.
    fn make_room(&self, state: &mut ConnectionTable, client: IpAddr) -> Option<Full> {
        let ConnectionLimitConfig { total, per_client, .. } = self.limits;
        let of_client = state.count(Use::Usual, Some(client));
        if of_client >= per_client && per_client < total {
            return (!self.evict(state, Some(client))).then_some(Full::Client(per_client));
        }
        let all = state.count(Use::Usual, None);
        (all >= total && !self.evict(state, None)).then_some(Full::Total(total))
    }

    /// Evicts the connection that has been idle for the longest, of all clients or of one. False if none is idle.
    fn evict(&self, state: &mut ConnectionTable, client: Option<IpAddr>) -> bool {
        if state.count(Use::Closing, None) >= MAX_CLOSING {
            return false;
        }
        if state.found_for != client {
            (state.found_for, state.searched_in_vain) = (client, None);
            state.found.clear();
        }
        let evicted = state.next_found().or_else(|| {
            // A search visits every connection.
            if state.searched_in_vain.is_some_and(|at| at.elapsed() < SEARCH_PAUSE) {
                return None;
            }
            state.search(client);
            state.searched_in_vain = state.found.is_empty().then(Instant::now);
            state.next_found()
        });
        let Some(id) = evicted else { return false };
        state.close(id);
        if let Some(metrics) = &self.metrics {
            metrics.closed(Closed::Evicted);
        }
        true
    }

    fn refuse(&self, state: &mut ConnectionTable, full: Full) {
        if let Some(metrics) = &self.metrics {
            metrics.refused(match full {
                Full::Total(_) => ExceededLimit::Total,
                Full::Client(_) => ExceededLimit::Client,
            });
        }
        if state.warned.is_none_or(|warned| warned.elapsed() >= WARNING_PAUSE) {
            tracing::warn!(reason = full.reason(), "connection rejected");
            state.warned = Some(Instant::now());
        }
    }

    fn state(&self) -> MutexGuard<'_, ConnectionTable> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Full {
    /// The limit that is reached, and the setting that raises it.
    pub(super) fn reason(self) -> String {
        match self {
            Full::Total(limit) => format!("{limit} connections are open and none is idle (--max-connections)"),
            Full::Client(limit) => {
                format!("{limit} connections of this address are open and none is idle (--max-connections-per-client)")
            }
        }
    }
}

impl ConnectionTable {
    fn count(&self, placed: Use, client: Option<IpAddr>) -> usize {
        self.counts.get(&(placed, client)).copied().unwrap_or(0)
    }

    fn add(&mut self, placed: Use, client: IpAddr) {
        for key in [None, Some(client)] {
            *self.counts.entry((placed, key)).or_default() += 1;
        }
    }

    fn remove(&mut self, placed: Use, client: IpAddr) {
        for key in [None, Some(client)] {
            if let Some(count) = self.counts.get_mut(&(placed, key)) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&(placed, key));
                }
            }
        }
    }

    /// Finds the connections that have been idle for the longest.
    fn search(&mut self, client: Option<IpAddr>) {
        let idle = self.connections.iter().filter_map(|(id, connection)| {
            let fits = client.is_none_or(|client| connection.client == client);
            connection.idle_time().filter(|_| fits).map(|time| (time, *id))
        });
        let mut idle: Vec<_> = idle.collect();
        if idle.len() > MAX_FOUND {
            let shorter = idle.len() - MAX_FOUND;
            idle.select_nth_unstable(shorter);
            idle.drain(..shorter);
        }
        idle.sort_unstable();
        self.found = idle.into_iter().map(|(_, id)| id).collect();
    }

    /// The next connection that the search found and that is still idle.
    fn next_found(&mut self) -> Option<u64> {
        while let Some(id) = self.found.pop() {
            if self.connections.get(&id).is_some_and(|connection| connection.idle_time().is_some()) {
                return Some(id);
            }
        }
        None
    }

    /// Notifies a connection to close. Its place is free from now on.
    fn close(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.placed = Use::Closing;
        connection.activity.close_requested.notify_one();
        connection.activity.end_requested.notify_one();
        let client = connection.client;
        self.remove(Use::Usual, client);
        self.add(Use::Closing, client);
    }
}

impl Connection {
    /// Time that the connection has been idle; `None` if it may not be evicted for that.
    fn idle_time(&self) -> Option<Duration> {
        let time = (self.placed == Use::Usual).then(|| self.activity.idle_time())?;
        time.filter(|time| *time >= MIN_IDLE)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut state = self.places.state();
        if let Some(Connection { client, placed, .. }) = state.connections.remove(&self.id) {
            state.remove(placed, client);
        }
        drop(state);
        if let Some(metrics) = &self.places.metrics {
            metrics.ended();
        }
    }
}

/// The address that a client is counted by. For IPv6 it is the network of 64 bits, as a client may use every address of it.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    #[test]
    fn addresses_of_one_network_are_one_client() {
        let address = |text: &str| network(text.parse().unwrap());
        assert_eq!(address("2001:db8:1:2:3:4:5:6"), address("2001:db8:1:2::1"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    }

    proptest! {
        /// Connections that were opened a moment ago are not idle yet: none is evicted for another.
        #[test]
        fn connection_permits_are_bounded_and_returned(
            changes in prop::collection::vec((0..4u8, any::<bool>(), any::<prop::sample::Index>()), 0..400),
            total in 1..20usize,
            per_client in 1..20usize,
        ) {
            let limits = ConnectionLimitConfig { total, per_client: per_client.min(total), health: true };
            let places = ConnectionLimit::new(limits, None);
            // Each with its client, and whether it is for health checks only.
            let mut open: Vec<(u8, bool, ConnectionPermit)> = Vec::new();
            for (number, opens, index) in changes {
                if !opens {
                    if !open.is_empty() {
                        open.swap_remove(index.index(open.len()));
                    }
                    continue;
                }
                let count = |health: bool, of: Option<u8>| {
                    open.iter().filter(|(by, kind, _)| *kind == health && of.is_none_or(|of| of == *by)).count()
                };
                let room = count(false, None) < total && count(false, Some(number)) < limits.per_client;
                let health_room = count(true, None) < HEALTH_PLACES && count(true, Some(number)) < HEALTH_PLACES_OF_CLIENT;
                match ConnectionLimit::admit(&places, client(number), &Arc::default()) {
                    ConnectionAdmission::ConnectionPermit(place) => {
                        prop_assert!(room);
                        open.push((number, false, place));
                    }
                    ConnectionAdmission::HealthOnly(place, full) => {
                        prop_assert!(!room && health_room);
                        let expected = if count(false, Some(number)) >= limits.per_client && limits.per_client < total {
                            Full::Client(limits.per_client)
                        } else {
                            Full::Total(total)
                        };
                        prop_assert_eq!(full, expected);
                        open.push((number, true, place));
                    }
                    ConnectionAdmission::Refused => prop_assert!(!room && !health_room),
                }
            }
            drop(open);
            let state = places.state();
            prop_assert!(state.connections.is_empty() && state.counts.is_empty());
        }
    }
}
