use super::*;
use crate::{
    engine::{Engine, Target},
    host::files::ModelPath,
    tensor::{Datatype, ModelInputs, Shape, Tensor},
};
use std::{num::NonZeroUsize, path::Path, sync::atomic::AtomicUsize, thread};

#[test]
fn stop_reaches_only_the_named_run() {
    let _engine = Engine::for_tests();
    let control = Arc::new(RunControl::new(&Arc::default(), false).unwrap());
    RunControl::enter(Some(control.clone()));
    assert_eq!(control.running(), None);
    let first = controlled(|| {
        let number = control.running().unwrap();
        assert!(control.stop(number, StopReason::Deadline) && is_stop_requested());
        assert!(!control.stop(number, StopReason::Cancelled), "it is stopped already");
        number
    });
    assert_eq!((stop_reason(), is_stop_requested()), (Some(StopReason::Deadline), false));
    assert!(!control.stop(first, StopReason::Deadline), "it has ended");
    controlled(|| {
        assert!(!control.stop(first, StopReason::Deadline), "another run goes on");
        assert!(!is_stop_requested());
    });
    assert_eq!(stop_reason(), None);
    RunControl::enter(None);
}

/// A run that is not said to be stopped goes well, whenever others are.
#[test]
fn stop_never_hits_the_next_run() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/simple/1/model.onnx");
    let mut instance = Engine::for_tests().load(&ModelPath::alone(&model), &Target::cpu(NonZeroUsize::MIN)).unwrap();
    let input = || Tensor::new(Datatype::Int32, Shape::new(vec![1, 16]), vec![0; 64].into()).unwrap();
    let inputs: ModelInputs = vec![input(), input()].into();
    let control = Arc::new(RunControl::new(&Arc::default(), false).unwrap());
    let (is_over, stops) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                let stopped = control.running().is_some_and(|run| control.stop(run, StopReason::Cancelled));
                stops.fetch_add(usize::from(stopped), Relaxed);
                thread::yield_now();
            }
        });
        RunControl::enter(Some(control.clone()));
        let mut runs = 0;
        // Some are stopped, and some are not.
        while runs < 2000 || stops.load(Relaxed) < 100 {
            let outputs = instance.run(&[&inputs]).outputs;
            assert!(outputs.is_ok() || stop_reason().is_some(), "{outputs:?}");
            runs += 1;
            if runs % 2 == 0 {
                thread::yield_now();
            }
        }
        is_over.store(true, Relaxed);
        RunControl::enter(None);
    });
}

#[test]
fn final_stop_holds_for_the_runs_that_follow() {
    let _engine = Engine::for_tests();
    let control = Arc::new(RunControl::new(&Arc::default(), true).unwrap());
    RunControl::enter(Some(control.clone()));
    controlled(|| control.stop(control.running().unwrap(), StopReason::MaxRunTime));
    controlled(|| ());
    assert_eq!(stop_reason(), Some(StopReason::MaxRunTime));
    RunControl::enter(None);
}
