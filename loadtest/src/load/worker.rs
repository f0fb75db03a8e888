//! One thread of a load: its connections, and the requests it sends.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};
use tokio::{
    runtime::Builder,
    task::{JoinSet, LocalSet},
};

use super::{Level, Mix, Spacing, Terms, Window, arrivals::Arrivals, timer::Timer};
use crate::{
    client::Client,
    tally::{Failure, Tally, nanoseconds},
};

/// Arrivals after which others get their turn, where many are due at once.
const BURST: u32 = 32;

/// Time for which a client that can't connect waits before it retries.
const RECONNECT: Duration = Duration::from_millis(10);

pub(super) struct Worker {
    pub mix: Arc<Mix>,
    pub terms: Terms,
    pub level: Level,
    pub number: usize,
    pub tally: Arc<Mutex<Tally>>,
}

impl Worker {
    /// Connects, reports that, and loads once the time window has come.
    pub(super) fn run(
        self,
        connected: &mpsc::Sender<Result<(), String>>,
        window: &mpsc::Receiver<Window>,
    ) -> Result<(), String> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("a runtime can't be started: {error}"))?;
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            let clients = self.connect().await;
            let _ = connected.send(clients.as_ref().map(drop).map_err(Clone::clone));
            let (Ok(clients), Ok(window)) = (clients, window.recv()) else { return Ok(()) };
            let seed = self.mix.seed.wrapping_add(self.number as u64);
            let sender = Sender {
                mix: self.mix.clone(),
                clients,
                window,
                tally: self.tally.clone(),
                random: RefCell::new(fastrand::Rng::with_seed(seed)),
                open: Cell::new(0),
            };
            self.send(Rc::new(sender)).await
        })
    }

    /// The share of this thread in what all threads have together.
    fn share(&self, of: usize) -> usize {
        of / self.terms.threads + usize::from(self.number < of % self.terms.threads)
    }

    async fn connect(&self) -> Result<Vec<Client>, String> {
        let mut clients = Vec::new();
        for part in &self.mix.parts {
            let client = Client::connect(&part.target, self.share(self.terms.connections)).await;
            clients.push(client.map_err(|failure| format!("{}: {}", part.target, failure.message))?);
        }
        Ok(clients)
    }

    async fn send(&self, sender: Rc<Sender>) -> Result<(), String> {
        match self.level {
            Level::Closed { from, to } => {
                closed(sender, self.share(from), self.share(to)).await;
                Ok(())
            }
            Level::Open { from, to, spacing } => {
                let sent = self.open(sender, from, to, spacing).await;
                sent.map_err(|error| format!("the timer of an open loop: {error}"))
            }
        }
    }

    async fn open(&self, sender: Rc<Sender>, from: f64, to: f64, spacing: Spacing) -> std::io::Result<()> {
        let threads = self.terms.threads as f64;
        let (from, to, phase) = (from / threads, to / threads, self.number as f64 / threads);
        let seed = !sender.mix.seed.wrapping_add(self.number as u64);
        let most_open = self.share(self.terms.most_open);
        let Window { begin, from: measured, .. } = sender.window;
        let warm_up = Arrivals::new(from, from, self.terms.warm_up, spacing, phase, seed).map(|at| begin + at);
        let measured_too =
            Arrivals::new(from, to, self.terms.duration, spacing, phase, seed ^ 1).map(|at| measured + at);
        let timer = Timer::new()?;
        let mut requests = JoinSet::new();
        let mut at_once = 0;
        for due in warm_up.chain(measured_too) {
            if due > Instant::now() {
                timer.wait_until(due).await?;
                at_once = 0;
            } else {
                at_once += 1;
                if at_once % BURST == 0 {
                    tokio::task::yield_now().await;
                }
            }
            while requests.try_join_next().is_some() {}
            if sender.open.get() >= most_open {
                sender.not_sent(due);
                continue;
            }
            let sender = sender.clone();
            sender.open.set(sender.open.get() + 1);
            requests.spawn_local(async move {
                sender.request(due).await;
                sender.open.set(sender.open.get() - 1);
            });
        }
        while requests.join_next().await.is_some() {}
        Ok(())
    }
}

/// Clients that begin one after the other over the time that is measured, the first `from` of them at once.
async fn closed(sender: Rc<Sender>, from: usize, to: usize) {
    let Window { begin, from: measured, to: end } = sender.window;
    let mut clients = JoinSet::new();
    for number in 0..to {
        let begin = match number.checked_sub(from) {
            None => begin,
            Some(after) => measured + (end - measured).mul_f64((after + 1) as f64 / (to - from + 1) as f64),
        };
        let sender = sender.clone();
        clients.spawn_local(async move {
            tokio::time::sleep_until(begin.into()).await;
            while Instant::now() < end {
                if !sender.request(Instant::now()).await {
                    tokio::time::sleep(RECONNECT).await;
                }
            }
        });
    }
    while clients.join_next().await.is_some() {}
}

/// State that the requests of a thread share.
struct Sender {
    mix: Arc<Mix>,
    clients: Vec<Client>,
    window: Window,
    tally: Arc<Mutex<Tally>>,
    random: RefCell<fastrand::Rng>,
    open: Cell<usize>,
}

impl Sender {
    /// Sends a request that is due, waits for the answer, and counts it. False where the connection broke.
    async fn request(&self, due: Instant) -> bool {
        let (part, message) = self.choose();
        let (target, message) = (&self.mix.parts[part].target, &self.mix.parts[part].messages[message]);
        let sent = Instant::now();
        let answered = self.clients[part].infer(message, self.mix.timeout).await;
        let checked = answered.and_then(|reply| match message.expected.get() {
            Some(expected) => expected
                .check(&reply, target.protocol)
                .map_err(|why| Failure::answered("wrong answer", format!("{target}: {why}"))),
            None => Ok(()),
        });
        let ended = Instant::now();
        let connected = !checked.as_ref().is_err_and(|failure| failure.disconnected);
        let Window { from, to, .. } = self.window;
        let (was_due, has_ended) = ((from..to).contains(&due), (from..to).contains(&ended));
        if !was_due && !has_ended {
            return connected;
        }
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        match checked {
            Ok(()) => {
                let took = ended - due;
                if has_ended {
                    tally.completed += 1;
                    tally.rows += message.rows;
                    tally.good += u64::from(self.mix.limit.is_some_and(|limit| took <= limit));
                }
                if was_due {
                    tally.latencies.saturating_record(nanoseconds(took));
                    tally.lateness.saturating_record(nanoseconds(sent - due));
                }
            }
            Err(failure) if was_due => {
                tally.failure_latencies.saturating_record(nanoseconds(ended - due));
                tally.fail(failure);
            }
            Err(_) => {}
        }
        connected
    }

    /// A request was due, but too many are under way.
    fn not_sent(&self, due: Instant) {
        if (self.window.from..self.window.to).contains(&due) {
            let open = self.open.get();
            let why = format!("{open} requests of this thread were under way; --max-open allows more");
            self.tally.lock().unwrap_or_else(PoisonError::into_inner).fail(Failure::answered("not sent", why));
        }
    }

    /// A target by its weight, and one of its messages.
    fn choose(&self) -> (usize, usize) {
        let mut random = self.random.borrow_mut();
        let parts = &self.mix.parts;
        let mut part = 0;
        if parts.len() > 1 {
            let mut draw = random.f64() * parts.iter().map(|part| part.target.weight).sum::<f64>();
            while part + 1 < parts.len() && draw >= parts[part].target.weight {
                draw -= parts[part].target.weight;
                part += 1;
            }
        }
        (part, random.usize(..parts[part].messages.len()))
    }
}
