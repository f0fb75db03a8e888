use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A batcher whose every run takes as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Job {
    number: usize,
    slots: usize,
    takes: u64,
    arrives: u64,
}

fn milliseconds(time: u64) -> Duration {
    Duration::from_millis(time)
}

/// When each job began and ended, by the number of milliseconds, in the order of their beginnings.
fn simulate(slots: usize, jobs: &[Job]) -> Vec<(Job, u64, u64)> {
    let (mut queue, start) = (SlotQueue::new(), Instant::now());
    (0..slots).for_each(|_| queue.add_slot());
    let mut arriving: VecDeque<Job> = jobs.iter().copied().collect();
    let mut going: Vec<(u64, RunId)> = Vec::new();
    let mut done = Vec::new();
    let (mut now, mut wake) = (0, None);
    while done.len() < jobs.len() || !going.is_empty() {
        let arrival = arriving.front().map(|job| job.arrives);
        let ending = going.iter().map(|(end, _)| *end).min();
        now = [arrival, ending, wake].into_iter().flatten().min().expect("something is to happen").max(now);
        while let Some(job) = arriving.pop_front_if(|job| job.arrives <= now) {
            queue.push(job, job.slots);
        }
        going.retain(|(end, run)| *end > now || !queue.end(*run));
        wake = loop {
            match queue.next(start + milliseconds(now), |job: &Job| Some(milliseconds(job.takes))) {
                NextRun::Run(job, run) => {
                    going.push((now + job.takes, run));
                    done.push((job, now, now + job.takes));
                }
                NextRun::Wait(until) => break until.map(|until| (until - start).as_millis() as u64),
            }
        };
        assert!(wake.is_none_or(|wake| wake > now), "it would have had its turn");
    }
    done
}

fn jobs(slots: usize) -> impl Strategy<Value = Vec<Job>> {
    let job = (1..=slots + 1, prop_oneof![1..10u64, 1..1000u64], 0..300u64);
    prop::collection::vec(job, 1..40).prop_map(|mut jobs| {
        jobs.sort_by_key(|(_, _, arrives)| *arrives);
        let job = |(number, (slots, takes, arrives))| Job { number, slots, takes, arrives };
        jobs.into_iter().enumerate().map(job).collect()
    })
}

proptest! {
    #[test]
    fn slot_queue_runs_every_job_once_within_the_slots((slots, jobs) in (1..5usize).prop_flat_map(|slots| (Just(slots), jobs(slots)))) {
        let done = simulate(slots, &jobs);
        let numbers: BTreeSet<usize> = done.iter().map(|(job, ..)| job.number).collect();
        prop_assert_eq!(numbers.len(), jobs.len());
        for (_, at, _) in &done {
            let held = done.iter().filter(|(_, began, ended)| began <= at && at < ended);
            prop_assert!(held.map(|(job, ..)| job.slots.min(slots)).sum::<usize>() <= slots);
        }
    }

    #[test]
    fn slot_queue_head_waits_at_most_two_longest_runs((slots, jobs) in (1..5usize).prop_flat_map(|slots| (Just(slots), jobs(slots)))) {
        let done = simulate(slots, &jobs);
        let longest = jobs.iter().map(|job| job.takes).max().unwrap_or(0);
        for (job, began, _) in &done {
            // First from when the last of those that arrived before it has begun.
            let before = done.iter().filter(|(other, ..)| other.number < job.number).map(|(_, began, _)| *began);
            let first_since = before.max().unwrap_or(0).max(job.arrives);
            prop_assert!(began.saturating_sub(first_since) <= 2 * longest, "{job:?} began at {began}: {done:?}");
        }
    }

    #[test]
    fn slot_queue_keeps_the_order_of_equal_jobs(jobs in jobs(1)) {
        let same: Vec<Job> = jobs.iter().map(|job| Job { slots: 1, ..*job }).collect();
        let order: Vec<usize> = simulate(2, &same).iter().map(|(job, ..)| job.number).collect();
        prop_assert!(order.is_sorted());
    }
}

/// A run that never ends stands between the first in queue and its slots; the others go on.
#[test]
fn short_runs_pass_jobs_stuck_behind_long_runs() {
    let (mut queue, start) = (SlotQueue::new(), Instant::now());
    (0..2).for_each(|_| queue.add_slot());
    let expected = |name: &&str| match *name {
        "short" => Some(milliseconds(5)),
        "long" => Some(milliseconds(50)),
        _ => None,
    };
    queue.push("wedge", 1);
    assert_eq!(queue.next(start, expected), NextRun::Run("wedge", 0));
    for (name, slots) in [("all", 2), ("new", 1), ("long", 1), ("short", 1)] {
        queue.push(name, slots);
    }
    let at = |time| start + milliseconds(time);
    assert_eq!(queue.next(at(1), expected), NextRun::Wait(Some(at(5))), "the run is young: its slot may soon be free");
    assert_eq!(queue.next(at(5), expected), NextRun::Run("short", 1));
    assert_eq!(queue.next(at(60), expected), NextRun::Wait(None), "no slot is free");
    assert!(queue.end(1) && !queue.end(1));
    assert_eq!(queue.next(at(60), expected), NextRun::Run("long", 2));
    queue.end(2);
    assert_eq!(queue.next(at(100), expected), NextRun::Run("new", 3));
    queue.end(3);
    // Runs that overtook earlier entries do not count for entries that come later.
    queue.push("short", 1);
    assert_eq!(queue.next(at(101), expected), NextRun::Run("short", 4));
    assert!(queue.end(0));
    queue.push("short", 1);
    assert_eq!(queue.next(at(200), expected), NextRun::Wait(None), "slots are kept for the first");
    queue.end(4);
    assert_eq!(queue.next(at(201), expected), NextRun::Run("all", 5));
}
