//! From options to requests: asks the servers what they take, and what they answer.

use std::{fs, sync::Arc, time::Duration};

use crate::{
    answer::{Expected, Reply},
    cli::Load,
    client::{Client, Metadata},
    load::{Level, Mix, Part, Terms},
    message::Message,
    target::{Protocol, Target},
    tensors::{Case, Shapes},
};

/// Different requests to a target, as far as they stay small.
const MESSAGES: usize = 16;
const BYTES: usize = 64 << 20;

/// The requests to these targets, each of them tried once.
///
/// # Errors
/// For people: a server can't be reached or refuses, or a file can't be read.
pub(crate) async fn mix(targets: &[Target], load: &Load) -> Result<Arc<Mix>, String> {
    let cases = load.input.iter().map(|path| {
        let text = fs::read_to_string(path).map_err(|error| error.to_string());
        text.and_then(|text| Case::read(&text)).map_err(|why| format!("{}: {why}", path.display()))
    });
    let cases: Vec<Case> = cases.collect::<Result<_, _>>()?;
    let mut parts = Vec::new();
    for target in targets {
        let part = part(target, &cases, load).await;
        parts.push(part.map_err(|why| format!("{target}: {why}"))?);
    }
    Ok(Arc::new(Mix { parts, timeout: load.timeout, limit: load.goodput_limit(), seed: load.seed }))
}

async fn part(target: &Target, cases: &[Case], load: &Load) -> Result<Part, String> {
    let client = Client::connect(target, 1).await.map_err(|failure| failure.message)?;
    let mut messages = Vec::new();
    if cases.is_empty() {
        let metadata = client.metadata().await.map_err(|failure| format!("{}: {}", failure.kind, failure.message))?;
        messages = made_up(target, &metadata, &load.shape, load.deadline, load.seed)?;
    }
    for case in cases {
        let message = Message::new(target, &case.inputs, load.deadline);
        if let Some(outputs) = case.outputs.clone().filter(|_| !load.no_check) {
            let _ = message.expected.set(Expected::outputs(outputs));
        }
        messages.push(message);
    }
    for message in &messages {
        let reply = ask(&client, message, load.timeout).await?;
        if load.no_check {
            continue;
        }
        match message.expected.get() {
            Some(expected) => expected.check(&reply, target.protocol)?,
            None => {
                let _ = message.expected.set(Expected::like(&reply, target.protocol)?);
            }
        }
    }
    Ok(Part { target: target.clone(), messages })
}

/// Requests of random inputs, the same ones for the same seed.
pub(crate) fn made_up(
    target: &Target,
    metadata: &Metadata,
    shapes: &Shapes,
    deadline: Option<Duration>,
    seed: u64,
) -> Result<Vec<Message>, String> {
    if let Some((name, _)) = shapes.iter().find(|(name, _)| metadata.inputs.iter().all(|input| input.name != *name)) {
        let inputs: Vec<&str> = metadata.inputs.iter().map(|input| input.name.as_str()).collect();
        return Err(format!("there is no input '{name}' to give a shape; inputs are {}", inputs.join(", ")));
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut messages: Vec<Message> = Vec::new();
    let mut bytes = 0;
    while messages.len() < MESSAGES && (messages.is_empty() || bytes < BYTES) {
        let inputs = metadata.inputs.iter().map(|input| input.made_up(target.rows, shapes, &mut random));
        let message = Message::new(target, &inputs.collect::<Result<Vec<_>, _>>()?, deadline);
        bytes += message.body.len();
        messages.push(message);
    }
    Ok(messages)
}

/// The answer to a request that must not fail.
pub(crate) async fn ask(client: &Client, message: &Message, timeout: Duration) -> Result<Reply, String> {
    let answered = client.infer(message, timeout).await;
    answered.map_err(|failure| format!("the first request failed: {}: {}", failure.kind, failure.message))
}

/// Settings for all levels of a load.
pub(crate) fn terms(load: &Load, targets: &[Target], level: Level) -> Terms {
    let is_grpc = targets.iter().all(|target| target.protocol == Protocol::Grpc);
    let (clients, default) = match level {
        Level::Closed { to, .. } => (to, if is_grpc { to.min(4) } else { to }),
        Level::Open { .. } => (usize::MAX, if is_grpc { 4 } else { 256 }),
    };
    let connections = load.connections.unwrap_or(default).max(1);
    let cpus = std::thread::available_parallelism().map_or(1, Into::into);
    let threads = load.threads.map_or(cpus.min(connections), Into::into).min(clients);
    Terms { threads, connections, warm_up: load.warm_up, duration: load.duration, most_open: load.max_open }
}
