//! Cost of overload, on a lane that is simulated event by event.

mod lane;

use std::time::Duration;

use super::AdmissionRefusal;
use crate::config::QueueTime;
use lane::{Clients, Cost, Lane, LaneOutcome};

const SECOND: Duration = Duration::from_secs(1);

/// 5.5 ms a row, which batches don't change.
const LINEAR: Cost = Cost { first: 0.0, row: 5.5 };
/// A model that batches make much cheaper.
const BATCHED: Cost = Cost { first: 5.0, row: 0.5 };

fn clients(lane: &Lane, load: f64, deadline: Option<u64>) -> Clients {
    Clients { rate: load * lane.capacity(), deadline: deadline.map(Duration::from_millis), level: 0 }
}

/// A load for ten seconds, after some seconds of it.
fn overload(lane: &mut Lane, load: f64, deadline: Option<u64>) -> LaneOutcome {
    let clients = [clients(lane, load, deadline)];
    lane.run(&clients, 3 * SECOND);
    lane.run(&clients, 10 * SECOND)
}

#[test]
fn goodput_holds_under_overload_and_refusals_are_immediate() {
    for (cost, rows, deadlines) in [(LINEAR, 0, [250, 50]), (LINEAR, 64, [250, 50]), (BATCHED, 64, [500, 250])] {
        for instances in [1, 2] {
            for deadline in deadlines {
                for load in [1.2, 2.0, 5.0] {
                    let mut lane = Lane::new(rows, instances, cost, 0.05, &[QueueTime::Auto]);
                    let outcome = overload(&mut lane, load, Some(deadline));
                    let goodput = outcome.goodput / lane.capacity();
                    let case = format!("{cost:?}, {rows} rows, x{instances}, {deadline} ms, load {load}");
                    assert!(goodput > 0.95, "{case}: goodput {goodput:.3}");
                    assert!(
                        outcome.slow_share() < 0.01,
                        "{case}: {:.4} of the refusals are slow",
                        outcome.slow_share()
                    );
                }
            }
        }
    }
}

/// Run times that vary by a third, and runs that are interrupted now and then. The capacity is less by a twentieth.
#[test]
fn goodput_holds_where_run_times_vary() {
    for rows in [0, 64] {
        // An interruption is fatal to whoever has less time.
        for (deadline, interruptions) in [(250, (10.0, 200)), (50, (10.0, 200)), (250, (60.0, 1000))] {
            for load in [1.2, 2.0, 5.0] {
                let mut lane = Lane::new(rows, 1, LINEAR, 0.3, &[QueueTime::Auto]);
                lane.interruptions = interruptions;
                let outcome = overload(&mut lane, load, Some(deadline));
                let goodput = outcome.goodput / lane.capacity();
                let case = format!("{rows} rows, {deadline} ms, load {load}, interruptions {interruptions:?}");
                assert!(goodput > 0.88, "{case}: goodput {goodput:.3}");
                assert!(outcome.slow_share() < 0.01, "{case}: {:.4} of the refusals are slow", outcome.slow_share());
            }
        }
    }
}

#[test]
fn lane_below_its_capacity_rejects_almost_nothing() {
    for (deadline, most) in [(None, 0.0), (Some(250), 0.001), (Some(50), 0.03)] {
        for rows in [0, 64] {
            let mut lane = Lane::new(rows, 1, LINEAR, 0.05, &[QueueTime::Auto]);
            let outcome = overload(&mut lane, 0.8, deadline);
            let refused = outcome.failures() as f64 / (0.8 * lane.capacity() * 10.0);
            assert!(refused <= most, "{deadline:?}, {rows} rows: {refused:.4} refused");
        }
    }
}

#[test]
fn lane_recovers_within_a_second() {
    for deadline in [250, 50] {
        let mut lane = Lane::new(64, 1, LINEAR, 0.05, &[QueueTime::Auto]);
        overload(&mut lane, 5.0, Some(deadline));
        let calm = [clients(&lane, 0.5, Some(deadline))];
        let outcome = lane.run(&calm, SECOND);
        assert!(outcome.failures() <= 2, "{deadline} ms: {} failed after the overload", outcome.failures());
        // The machine was busy with something else: every run took 20 times as long.
        lane.slowness = 20.0;
        lane.run(&calm, 2 * SECOND);
        lane.slowness = 1.0;
        lane.run(&calm, SECOND);
        let outcome = lane.run(&calm, SECOND);
        assert!(outcome.failures() <= 2, "{deadline} ms: {} failed after slow runs", outcome.failures());
    }
}

#[test]
fn queue_without_deadlines_is_bounded_in_time() {
    for rows in [0, 64] {
        let mut lane = Lane::new(rows, 1, LINEAR, 0.05, &[QueueTime::Auto]);
        let outcome = overload(&mut lane, 2.0, None);
        assert!(outcome.goodput / lane.capacity() > 0.99);
        // It waits as long as it may, and then runs: in a batch of 352 ms.
        let longest = outcome.latencies.iter().max().unwrap();
        let most = if rows == 0 { 2.1 } else { 3.2 };
        assert!(longest.as_secs_f64() < most, "{rows} rows: one took {longest:?}");
        assert!(outcome.refusals.iter().all(|refusal| matches!(refusal, AdmissionRefusal::QueueTime { .. })));
    }
    let limit = Duration::from_millis(100);
    let mut lane = Lane::new(0, 1, LINEAR, 0.05, &[QueueTime::AtMost(limit)]);
    let outcome = overload(&mut lane, 2.0, None);
    assert!(outcome.latencies.iter().all(|took| *took < limit + Duration::from_millis(10)));
    assert!(outcome.slow_share() < 0.01 && outcome.goodput / lane.capacity() > 0.99);
    let mut lane = Lane::new(0, 1, LINEAR, 0.05, &[QueueTime::Unlimited]);
    let outcome = overload(&mut lane, 2.0, None);
    assert!(outcome.refusals.iter().all(|refusal| matches!(refusal, AdmissionRefusal::Full { limit: 1024 })));
}

#[test]
fn lower_priority_level_is_rejected_first() {
    let mut lane = Lane::new(64, 1, LINEAR, 0.05, &[QueueTime::Auto; 2]);
    let high = clients(&lane, 0.5, Some(250));
    let low = Clients { level: 1, ..clients(&lane, 2.0, Some(250)) };
    lane.run(&[high, low], 5 * SECOND);
    let outcomes = lane.run_each(&[high, low], 10 * SECOND);
    let goodput = |number: usize| outcomes[number].goodput / lane.capacity();
    assert!(outcomes[0].failures() <= 3, "{} of the higher level failed", outcomes[0].failures());
    assert!(goodput(0) + goodput(1) > 0.95, "goodput {:.3} and {:.3}", goodput(0), goodput(1));
    assert!(outcomes[1].slow_share() < 0.01, "{:.4} of the refusals are slow", outcomes[1].slow_share());
}

#[test]
fn unmeasured_lane_rejects_nobody() {
    let mut lane = Lane::new(64, 1, BATCHED, 0.0, &[QueueTime::Auto]);
    let burst = Clients { rate: 1e6, deadline: Some(Duration::from_millis(50)), level: 0 };
    let outcome = lane.run(&[burst], Duration::from_micros(100));
    assert_eq!(outcome.failures(), 0);
}

#[test]
fn stopped_run_does_not_reject_the_waiting_requests() {
    let mut lane = Lane::new(0, 1, LINEAR, 0.0, &[QueueTime::Auto]);
    let calm = [clients(&lane, 0.8, Some(250))];
    lane.run(&calm, SECOND);
    let none = [Clients { rate: 1e-6, ..calm[0] }];
    lane.run(&none, SECOND);
    assert!(lane.outlasts_a_run_that_is_stopped_after(60 * SECOND));
    // Nor does it make anybody expect a long wait.
    let outcome = lane.run(&calm, SECOND);
    assert!(outcome.failures() <= 1, "{} refused", outcome.failures());
}

/// One of 60 ms, and then requests that have 50.
#[test]
fn lone_request_runs_despite_the_forecast() {
    let mut lane = Lane::new(64, 1, LINEAR, 0.0, &[QueueTime::Auto]);
    lane.slowness = 11.0;
    let lone = |deadline| Clients { rate: 2.0, deadline: Some(Duration::from_millis(deadline)), level: 0 };
    lane.run(&[lone(500)], 5 * SECOND);
    lane.slowness = 1.0;
    let outcome = lane.run(&[lone(50)], 5 * SECOND);
    assert!(outcome.latencies.len() > 5 && outcome.failures() == 0, "{outcome:?}");
}
