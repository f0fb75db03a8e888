use futures_util::future::{Either, join3, select};
use shuttle::{
    Config, Runner,
    future::block_on,
    scheduler::{PctScheduler, RandomScheduler},
};
use std::{
    pin::pin,
    time::{Duration, Instant},
};

use super::{
    fake_model::{Course, FakeModel, Script, request},
    shuttled::{
        compute::Compute,
        inline, io_thread,
        sync::{Arc, thread},
        version_batcher::Batcher,
    },
};
use crate::{
    batcher::{BatcherSettings, Instances, Levels, OnDevice},
    config::{ModelConfig, QueueTime},
    error::{Code, Lost},
    metrics::Exposition,
};

/// Orders of steps that are tried of each test, by each of two schedulers. Lost wake-ups that were planted were found within these.
const ORDERS: usize = 200;

/// Preemptions that the second scheduler makes.
const PREEMPTIONS: usize = 3;

/// Runs a test in many orders of its threads' steps.
fn in_many_orders(test: impl Fn() + Send + Sync + 'static) {
    let test = Arc::new(test);
    let config = || {
        let mut config = Config::new();
        config.failure_persistence = shuttle::FailurePersistence::Print;
        config
    };
    let same = test.clone();
    Runner::new(RandomScheduler::new(ORDERS), config()).run(move || same());
    Runner::new(PctScheduler::new(PREEMPTIONS, ORDERS), config()).run(move || test());
}

/// The settings of a batcher: requests are batched, or run alone.
fn settings(batched: bool, slots: usize) -> BatcherSettings {
    BatcherSettings {
        rows_independent: true,
        batched,
        open_axes: Vec::new(),
        shared_extents: Vec::new(),
        required_extents: Vec::new(),
        max_batch_size: 2,
        max_queue_delay: Duration::ZERO,
        max_queue_size: 100,
        levels: Levels::new(&ModelConfig::default(), QueueTime::Unlimited),
        slots,
        ran_at_load: true,
        inline_rows: 2,
        max_run_time: None,
    }
}

/// A batcher over so many instances for compute threads, and so many for I/O threads.
fn batcher(
    compute: &Compute,
    script: &Arc<Script>,
    counts: [usize; 2],
    settings: BatcherSettings,
) -> Arc<Batcher<FakeModel>> {
    let models = |count: usize| (0..count).map(|_| FakeModel::new(script)).collect::<Vec<_>>();
    let on_device = OnDevice { instances: models(counts[0]), in_flight: None };
    let instances = Instances { compute: vec![on_device], inline: models(counts[1]) };
    let metrics = Exposition::new(&[]).version("m", 1);
    Batcher::new("m", 1, instances, settings, metrics, compute.clone())
}

/// Sends a request and waits for its outputs, which are its inputs. An error is returned.
async fn infer(batcher: &Arc<Batcher<FakeModel>>, rows: usize, number: u8) -> Result<(), Code> {
    let submitted = batcher.submit(request(rows, number), 0, None, Instant::now());
    let output = batcher.answer(submitted.map_err(|error| error.code())?).await;
    let outputs = output.map_err(|error| error.code())?.outputs;
    assert_eq!(**outputs[0].data(), vec![number; rows]);
    Ok(())
}

/// Starts a client that sends requests of these rows, one after the other, and returns their errors.
fn client(batcher: &Arc<Batcher<FakeModel>>, number: u8, rows: &'static [usize]) -> thread::JoinHandle<Vec<Code>> {
    let batcher = batcher.clone();
    thread::spawn(move || {
        let errors = rows.iter().filter_map(|rows| block_on(infer(&batcher, *rows, number)).err());
        errors.collect()
    })
}

fn errors(clients: Vec<thread::JoinHandle<Vec<Code>>>) -> Vec<Code> {
    clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
}

#[test]
fn requests_are_all_answered_whether_batched_or_not() {
    for (batched, instances) in [(true, 1), (true, 2), (false, 1), (false, 2)] {
        in_many_orders(move || {
            let compute = Compute::start(2);
            let batcher = batcher(&compute, &Script::new(Vec::new()), [instances, 0], settings(batched, 1));
            // One of three rows runs in pieces.
            let clients = [&[1, 1][..], &[1, 2], &[3]].into_iter().zip(1..);
            let clients = clients.map(|(rows, number)| client(&batcher, number, rows)).collect();
            assert_eq!(errors(clients), []);
            compute.stop();
        });
    }
}

#[test]
fn versions_that_share_compute_slots_are_all_served() {
    in_many_orders(|| {
        let compute = Compute::start(2);
        let wide = batcher(&compute, &Script::new(Vec::new()), [1, 0], settings(true, 2));
        let narrow = batcher(&compute, &Script::new(Vec::new()), [1, 0], settings(true, 1));
        let clients = vec![client(&wide, 1, &[1, 1]), client(&narrow, 2, &[1, 1]), client(&narrow, 3, &[1])];
        assert_eq!(errors(clients), []);
        compute.stop();
    });
}

#[test]
fn cancelled_requests_hold_up_no_others() {
    in_many_orders(|| {
        let compute = Compute::start(1);
        let batcher = batcher(&compute, &Script::new(Vec::new()), [1, 0], settings(true, 1));
        let leaving = batcher.clone();
        let leaving = thread::spawn(move || {
            for number in [7, 8] {
                let submitted = leaving.submit(request(1, number), 0, None, Instant::now()).unwrap();
                thread::yield_now();
                drop(submitted);
            }
        });
        assert_eq!(errors(vec![client(&batcher, 1, &[1, 1]), client(&batcher, 2, &[2])]), []);
        leaving.join().unwrap();
        compute.stop();
    });
}

#[test]
fn lost_batcher_answers_every_request() {
    in_many_orders(|| {
        let compute = Compute::start(1);
        let batcher = batcher(&compute, &Script::new(Vec::new()), [1, 0], settings(true, 1));
        let losing = batcher.clone();
        let losing = thread::spawn(move || losing.lose(Lost::for_good("its files are gone")));
        let errors = errors(vec![client(&batcher, 1, &[1, 1]), client(&batcher, 2, &[1, 3])]);
        assert!(errors.iter().all(|code| *code == Code::Unavailable), "{errors:?}");
        losing.join().unwrap();
        assert_eq!(block_on(infer(&batcher, 1, 9)), Err(Code::Unavailable));
        compute.stop();
    });
}

#[test]
fn model_that_breaks_in_a_run_answers_every_request() {
    for instances in [1, 2] {
        in_many_orders(move || {
            let compute = Compute::start(2);
            let script = Script::new(vec![Course::Breaks, Course::Normal]);
            let batcher = batcher(&compute, &script, [instances, 0], settings(true, 1));
            let clients = vec![client(&batcher, 1, &[1, 1]), client(&batcher, 2, &[1]), client(&batcher, 3, &[1])];
            let errors = errors(clients);
            assert!(errors.iter().all(|code| *code == Code::Unavailable), "{errors:?}");
            compute.stop();
        });
    }
}

#[test]
fn worker_death_in_a_run_restarts_for_waiting_requests() {
    in_many_orders(|| {
        let compute = Compute::start(1);
        let script = Script::new(vec![Course::EndsWorker, Course::Normal]);
        let batcher = batcher(&compute, &script, [1, 0], settings(true, 1));
        let errors = errors(vec![client(&batcher, 1, &[1, 1]), client(&batcher, 2, &[1]), client(&batcher, 3, &[1])]);
        // Only jobs of the batch that the instance died of fail.
        assert!(errors.len() <= 2 && errors.iter().all(|code| *code == Code::Unavailable), "{errors:?}");
        compute.stop();
    });
}

#[test]
fn idle_worker_death_restarts_for_later_requests() {
    in_many_orders(|| {
        let compute = Compute::start(1);
        let script = Script::in_worker();
        let batcher = batcher(&compute, &script, [1, 0], settings(true, 1));
        batcher.restart_idle_workers();
        let clients = vec![client(&batcher, 1, &[1, 1]), client(&batcher, 2, &[1, 1])];
        script.kill();
        let errors = errors(clients);
        assert!(errors.len() <= 2 && errors.iter().all(|code| *code == Code::Unavailable), "{errors:?}");
        assert_eq!(block_on(infer(&batcher, 1, 9)), Ok(()));
        compute.stop();
    });
}

#[test]
fn abandoned_run_gives_its_slot_to_other_versions() {
    in_many_orders(|| {
        let compute = Compute::start(1);
        let script = Script::new(vec![Course::Hangs]);
        let hanging = batcher(&compute, &script, [1, 0], settings(true, 1));
        let other = batcher(&compute, &Script::new(Vec::new()), [1, 0], settings(true, 1));
        let others = vec![client(&other, 1, &[1, 1]), client(&other, 2, &[1])];
        let errors_of_hanging = errors(vec![client(&hanging, 3, &[1]), client(&hanging, 4, &[1])]);
        let expected = [Code::DeadlineExceeded, Code::Unavailable];
        assert!(errors_of_hanging.iter().all(|code| expected.contains(code)), "{errors_of_hanging:?}");
        assert_eq!(errors(others), []);
        script.release();
        compute.stop();
    });
}

#[test]
fn slots_that_a_wide_run_frees_are_all_used() {
    in_many_orders(|| {
        let compute = Compute::start(2);
        let script = Script::new(vec![Course::Holds]);
        let wide = batcher(&compute, &script, [1, 0], settings(true, 2));
        let meeting = Script::new(vec![Course::Meets; 2]);
        let [first, second] = [(); 2].map(|()| batcher(&compute, &meeting, [1, 0], settings(true, 1)));
        let waiting = client(&wide, 1, &[1]);
        script.wait_for_run();
        let clients = vec![waiting, client(&first, 2, &[1]), client(&second, 3, &[1])];
        script.release();
        assert_eq!(errors(clients), []);
        compute.stop();
    });
}

#[test]
fn batches_of_one_request_run_side_by_side() {
    in_many_orders(|| {
        let compute = Compute::start(2);
        let batcher = batcher(&compute, &Script::new(vec![Course::Meets; 2]), [2, 0], settings(true, 1));
        assert_eq!(errors(vec![client(&batcher, 1, &[4])]), []);
        compute.stop();
    });
}

#[test]
fn compute_threads_end_while_requests_are_pending() {
    in_many_orders(|| {
        let compute = Compute::start(2);
        let batcher = batcher(&compute, &Script::new(Vec::new()), [2, 0], settings(true, 1));
        let sending = batcher.clone();
        let sending = thread::spawn(move || {
            let submit = |number| sending.submit(request(1, number), 0, None, Instant::now()).unwrap();
            [1, 2, 3].map(submit)
        });
        compute.stop();
        // Jobs that the threads left are cancelled with the batcher.
        drop(sending.join().unwrap());
        compute.stop();
    });
}

#[test]
fn inline_lanes_answer_their_threads_and_a_loss_ends_them() {
    for lost in [false, true] {
        in_many_orders(move || {
            let compute = Compute::start(1);
            let batcher = batcher(&compute, &Script::new(Vec::new()), [1, 2], settings(true, 1));
            let io_threads = [0, 1].map(|number| {
                let batcher = batcher.clone();
                thread::spawn(move || block_on(io_thread(number, batcher)))
            });
            if lost {
                batcher.lose(Lost::for_good("its files are gone"));
            }
            for thread in io_threads {
                let errors: Vec<Code> = thread.join().unwrap();
                assert!(errors.iter().all(|code| lost && *code == Code::Unavailable), "{errors:?}");
            }
            compute.stop();
        });
    }
}

/// An I/O thread with a client that sends a request alone, and then some together. Returns their errors.
async fn io_thread(number: usize, batcher: Arc<Batcher<FakeModel>>) -> Vec<Code> {
    let requests = async {
        let mut errors = Vec::new();
        io_thread::begin_turn();
        errors.extend(infer(&batcher, 1, 1).await.err());
        io_thread::begin_turn();
        // The last is too large for the thread, and goes to the compute threads.
        let (first, second, third) = join3(infer(&batcher, 1, 2), infer(&batcher, 2, 3), infer(&batcher, 3, 4)).await;
        errors.extend([first, second, third].into_iter().filter_map(Result::err));
        errors
    };
    match select(pin!(inline::run_inline(number)), pin!(requests)).await {
        Either::Left(_) => unreachable!("turns never end"),
        Either::Right((errors, _)) => errors,
    }
}
