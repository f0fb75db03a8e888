//! A lane under load, simulated event by event: what overload costs.

mod lane;

use std::time::Duration;

use crate::config::QueueTime;
use lane::{Clients, Cost, Lane};

const MS: Duration = Duration::from_millis(1);

#[test]
fn sweep() {
    for (name, cost, rows) in [
        ("linear single", Cost::PerRow(5.5), 1),
        ("linear batched", Cost::PerRow(5.5), 64),
        ("gain batched", Cost::Batch { first: 5.0, row: 0.5 }, 64),
    ] {
        for instances in [1, 2] {
            for noise in [0.05, 0.3] {
                for deadline in [250, 50] {
                    for load in [0.8, 1.0, 1.2, 2.0, 5.0] {
                        let mut lane = Lane::new(rows, instances, cost, noise, 1, QueueTime::Auto);
                        let rate = load * lane.capacity();
                        let warm = [Clients { rate, deadline: Some(deadline * MS), level: 0 }];
                        lane.run(&warm, Duration::from_secs(3));
                        let out = lane.run(&warm, Duration::from_secs(30));
                        println!(
                            "{name} x{instances} noise {noise} deadline {deadline} load {load}: goodput {:.3} of capacity, slow of refusals {:.4}, p99 {:?} fill {:.2} slow {} of {}",
                            out.goodput / lane.capacity(), out.slow_share(), out.refusal_p99(), lane.fill(0), out.slow(), out.refused()
                        );
                    }
                }
            }
        }
    }
}
