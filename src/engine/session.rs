//! A session that instances share.

use ort::{
    AsPointer,
    session::{RunOptions, Session},
    sys,
};
use std::{
    ffi::{CString, c_char},
    mem::ManuallyDrop,
    ptr,
    sync::Arc,
};

use super::{
    cpu::{
        allocator::{Pool, within},
        binding::Binding,
    },
    cuda::graph_capture::while_no_graph_is_captured,
    log::during_run,
    run_control::with_options,
    status::checked,
    value::Value,
};
use crate::tensor::{Signature, TensorSpec};

/// A session with the names of what goes in and comes out, as ONNX Runtime takes them.
///
/// Runs may overlap, which `ort` does not let them: "Sessions are stateless so you can call Run concurrently" holds of the CPU
/// provider (<https://github.com/microsoft/onnxruntime/issues/114>), and of CUDA's, where each run has a stream of its own.
/// ONNX Runtime has those of providers that can't run so wait for each other. So a model's weights are in memory once, however
/// many threads run it.
pub(super) struct SharedSession {
    session: ManuallyDrop<Session>,
    inputs: Vec<CString>,
    optional_inputs: Vec<CString>,
    outputs: Vec<CString>,
    /// Memory for runs of callers without a pool of their own.
    pool: Arc<Pool>,
}

impl SharedSession {
    /// Shares a session with this signature.
    ///
    /// # Errors
    /// For people: a name that ONNX Runtime can't be given.
    pub(super) fn new(session: Session, signature: &Signature, pool: Arc<Pool>) -> Result<Self, String> {
        let name = |spec: &TensorSpec| {
            CString::new(&*spec.name).map_err(|_| format!("the name '{}' has a NUL in it", spec.name.escape_debug()))
        };
        let names = |specs: &[TensorSpec]| specs.iter().map(name).collect::<Result<_, _>>();
        Ok(SharedSession {
            inputs: names(&signature.inputs)?,
            optional_inputs: names(&signature.optional_inputs)?,
            outputs: names(&signature.outputs)?,
            session: ManuallyDrop::new(session),
            pool,
        })
    }

    /// The session, as `ort` has it.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// The names of the inputs that must be given.
    pub(super) fn inputs(&self) -> &[CString] {
        &self.inputs
    }

    /// The names of the outputs.
    pub(super) fn outputs(&self) -> &[CString] {
        &self.outputs
    }

    /// Runs the model with what is bound, which is of this session, with memory of this pool.
    #[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
    pub(super) fn run_bound(&self, binding: &Binding, pool: &Arc<Pool>) -> ort::Result<()> {
        let run = |options: Option<&RunOptions>| {
            let options = options.map_or(ptr::null(), AsPointer::ptr);
            // SAFETY: session, binding and options live; runs may overlap (see above), and those of one binding, and of one
            // thread's options, are made by one owner.
            unsafe {
                (ort::api().RunWithBinding)(self.session.ptr().cast_mut(), options, binding.pointer().cast_const())
            }
        };
        checked(during_run(|| within(pool, false, || with_options(run))))
    }

    /// Runs the model: one value for each input that must be given, and optional ones with their index. Gives one value per
    /// output, `None` where nothing came. The run's memory is of this pool, and zeroed if that is asked for.
    pub(super) fn run(
        &self,
        inputs: &[Value],
        optional: &[(usize, Value)],
        pool: &Arc<Pool>,
        zeroed: bool,
    ) -> ort::Result<Vec<Option<Value>>> {
        within(pool, zeroed, || with_options(|options| self.run_in_scope(inputs, optional, &[], options)))
    }

    /// The same with the session's own pool, where the caller has memory for outputs: what has a value among `places` is written
    /// to that, and does not come back.
    pub(super) fn run_into(
        &self,
        inputs: &[Value],
        optional: &[(usize, Value)],
        places: &[Option<Value>],
        options: Option<&RunOptions>,
        zeroed: bool,
    ) -> ort::Result<Vec<Option<Value>>> {
        within(&self.pool, zeroed, || self.run_in_scope(inputs, optional, places, options))
    }

    #[allow(unsafe_code, reason = "ONNX Runtime's C interface")]
    fn run_in_scope(
        &self,
        inputs: &[Value],
        optional: &[(usize, Value)],
        places: &[Option<Value>],
        options: Option<&RunOptions>,
    ) -> ort::Result<Vec<Option<Value>>> {
        let given = inputs.len() + optional.len();
        let mut names: Vec<*const c_char> = Vec::with_capacity(given + self.outputs.len());
        names.extend(self.inputs.iter().map(|name| name.as_ptr()));
        names.extend(optional.iter().map(|(index, _)| self.optional_inputs[*index].as_ptr()));
        names.extend(self.outputs.iter().map(|name| name.as_ptr()));
        let mut values: Vec<*mut sys::OrtValue> = Vec::with_capacity(names.len());
        values.extend(inputs.iter().chain(optional.iter().map(|(_, value)| value)).map(Value::pointer));
        values.extend(places.iter().map(|place| place.as_ref().map_or(ptr::null_mut(), Value::pointer)));
        values.resize(names.len(), ptr::null_mut());
        let (input_names, output_names) = names.split_at(given);
        let (input_values, output_values) = values.split_at_mut(given);
        // SAFETY: the session, the names, the inputs and the places live, and there are as many as the counts say; runs may overlap
        // (see above). Where an output's place is null, ONNX Runtime makes one, which is then the caller's.
        let status = during_run(|| unsafe {
            (ort::api().Run)(
                self.session.ptr().cast_mut(),
                options.map_or(ptr::null(), AsPointer::ptr),
                input_names.as_ptr(),
                input_values.as_ptr().cast(),
                given,
                output_names.as_ptr(),
                output_names.len(),
                output_values.as_mut_ptr(),
            )
        });
        let is_place = |index: usize| places.get(index).is_some_and(Option::is_some);
        let taken = output_values.iter().enumerate().map(|(index, pointer)| {
            let made = if is_place(index) { ptr::null_mut() } else { *pointer };
            // SAFETY: as above; a run that failed leaves what it made to the caller too.
            unsafe { Value::take(made) }
        });
        let outputs = taken.collect();
        checked(status).map(|()| outputs)
    }
}

impl Drop for SharedSession {
    #[allow(unsafe_code, reason = "drops the session at a time of its own")]
    fn drop(&mut self) {
        // SAFETY: it is dropped here, once, and not used any more.
        while_no_graph_is_captured(|| unsafe { ManuallyDrop::drop(&mut self.session) });
    }
}
