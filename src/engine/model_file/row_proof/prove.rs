//! The proof: runs the interpreter over a model, and reads the verdict off the values of its outputs.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    panic::{self, AssertUnwindSafe},
    rc::Rc,
};

use super::{
    super::onnx::{DimensionProto, ModelProto, NodeProto},
    extent::{BATCH, Extent},
    interpreter::Interpreter,
    node_names::{axes, shown},
    scope::Scope,
    tables,
    value::{Cause, Flow, Rows, Value},
    verdict::{RowAnalysis, RowFinding, RowProof},
};

/// Analyses a model.
pub(in crate::engine::model_file) fn analyse(model: &ModelProto) -> RowAnalysis {
    let table_sizes = model.graph.as_ref().map(tables::table_sizes).unwrap_or_default();
    // A defect of the analysis is to cost the batches of a model, and not its load.
    let proof = panic::catch_unwind(AssertUnwindSafe(|| prove(model)));
    let (proof, required_extents) = proof.unwrap_or_else(|_| {
        let why = "the analysis of the graph panicked, a defect of onnxd";
        (RowProof::Unproven(RowFinding::without_node(why.into())), BTreeMap::new())
    });
    RowAnalysis { proof, required_extents, table_sizes }
}

/// Proves that rows are independent along axis 0 of all required inputs and outputs, or says why that is not proven; with the
/// extents that requests must have for it.
fn prove(model: &ModelProto) -> (RowProof, BTreeMap<(String, usize), usize>) {
    let mut interpreter = Interpreter::new(&model.functions);
    let mut symbols_of_inputs = Vec::new();
    let proof = prove_with(&mut interpreter, model, &mut symbols_of_inputs);
    let required = symbols_of_inputs.into_iter().filter_map(|(input, axis, extent)| {
        let number = interpreter.symbols.required(&extent)?;
        Some(((input, axis), usize::try_from(number).ok()?))
    });
    (proof, required.collect())
}

fn prove_with<'m>(
    interpreter: &mut Interpreter<'m>,
    model: &'m ModelProto,
    symbols_of_inputs: &mut Vec<(String, usize, Extent)>,
) -> RowProof {
    let Some(graph) = &model.graph else {
        return RowProof::Unproven(RowFinding::without_node("the file holds no graph".into()));
    };
    let mut scope = Scope::of_model(&model.opsets);
    let kept: HashSet<&str> = graph.initializers.iter().map(|tensor| &*tensor.name).collect();
    let is_kept = |name: &str| kept.contains(name);
    let mut inner = HashMap::new();
    let required = || graph.inputs.iter().filter(|info| !is_kept(&info.name));
    let batch_names: Vec<&str> = required().filter_map(|info| axes(info)?.first()?.name.as_deref()).collect();
    for info in required() {
        let mut symbol = |axis: usize, interpreter: &mut Interpreter<'_>| {
            let dimension = &axes(info)?[axis];
            // A negative one is open.
            let extent = dimension.extent.filter(|extent| *extent >= 0);
            Some(match (extent, dimension.name.as_deref().filter(|name| !name.is_empty())) {
                (Some(extent), _) => Extent::Number(extent),
                (None, Some(name)) => inner.entry(name).or_insert_with(|| interpreter.symbols.request_extent()).clone(),
                _ => interpreter.symbols.request_extent(),
            })
        };
        let Some(axes) = axes(info) else {
            return RowProof::Unproven(RowFinding::without_node(format!("input '{}' declares no shape", info.name)));
        };
        match axes.first() {
            None => {
                return RowProof::Unproven(RowFinding::without_node(format!(
                    "input '{}' is a scalar, so it has no batch axis",
                    info.name
                )));
            }
            Some(first) if first.extent.is_some_and(|extent| extent >= 0) => {
                return RowProof::Unproven(RowFinding::without_node(format!(
                    "axis 0 of input '{}' has a fixed extent",
                    info.name
                )));
            }
            Some(_) => {}
        }
        let is_batch = |axis: &&DimensionProto| {
            axis.name.as_deref().is_some_and(|name| !name.is_empty() && batch_names.contains(&name))
        };
        if let Some(axis) = axes.iter().skip(1).find(is_batch) {
            let name = axis.name.as_deref().unwrap_or_default();
            let why =
                format!("another axis of input '{}' than its first has the name of a batch axis, '{name}'", info.name);
            return RowProof::Unproven(RowFinding::without_node(why));
        }
        let rest = (1..axes.len()).filter_map(|axis| symbol(axis, interpreter));
        let shape: Rc<[Extent]> = [Extent::symbol(BATCH)].into_iter().chain(rest).collect();
        let open = shape.iter().enumerate().skip(1).filter(|(_, extent)| extent.number().is_none());
        symbols_of_inputs.extend(open.map(|(axis, extent)| (info.name.clone(), axis, extent.clone())));
        let element = info.kind.as_ref().and_then(|kind| kind.tensor.as_ref()).map_or(0, |tensor| tensor.element);
        scope.values.insert(&info.name, Value::rows(Rows::along(0), element, Some(shape)));
    }
    interpreter.run(graph, &mut scope);
    let mut unproven = None;
    for output in &graph.outputs {
        match verdict(&output.name, scope.get(&output.name), &graph.nodes, &scope) {
            RowProof::Proven => {}
            RowProof::Unproven(finding) => _ = unproven.get_or_insert(finding),
            mixes @ RowProof::Mixes(_) => return mixes,
        }
    }
    unproven.map_or(RowProof::Proven, RowProof::Unproven)
}

/// The verdict on one output.
fn verdict(name: &str, value: Option<&Value>, nodes: &[NodeProto], scope: &Scope<'_>) -> RowProof {
    let without_node = |why: String| RowProof::Unproven(RowFinding::without_node(why));
    let finding = |cause: &Rc<Cause>| RowFinding {
        why: format!("{}: {}", cause.node, cause.why),
        chain: chain(name, cause, nodes, scope),
    };
    match value.map(|value| &value.flow) {
        None => without_node(format!("output '{name}' is defined nowhere")),
        Some(Flow::Rows(rows)) if *rows == Rows::along(0) => RowProof::Proven,
        Some(Flow::Rows(rows)) if rows.axis == 0 => {
            without_node(format!("output '{name}' has several entries for a row along axis 0"))
        }
        Some(Flow::Rows(rows)) => without_node(format!("output '{name}' holds the rows along axis {}", rows.axis)),
        Some(Flow::Constant) => without_node(format!("output '{name}' is the same whatever the rows are")),
        Some(Flow::BatchSize) => {
            RowProof::Mixes(RowFinding::without_node(format!("the number of rows decides output '{name}'")))
        }
        Some(Flow::Positions { .. } | Flow::RowTuples { .. }) => {
            RowProof::Mixes(RowFinding::without_node(format!("output '{name}' counts the rows of the batch")))
        }
        Some(Flow::Padded(..)) => RowProof::Mixes(RowFinding::without_node(format!(
            "output '{name}' is padded to the longest row of the batch"
        ))),
        Some(Flow::Mixed(cause)) => RowProof::Mixes(finding(cause)),
        Some(Flow::Unproven(cause)) => RowProof::Unproven(finding(cause)),
    }
}

/// The nodes from the one that lost the rows to an output.
fn chain(output: &str, cause: &Rc<Cause>, nodes: &[NodeProto], scope: &Scope<'_>) -> Vec<String> {
    let has_cause = |name: &str| {
        let flow = scope.values.get(name).map(|value| &value.flow);
        matches!(flow, Some(Flow::Mixed(other) | Flow::Unproven(other)) if Rc::ptr_eq(other, cause))
    };
    let mut chain = Vec::new();
    let mut name = output;
    // Nodes stand in the order in which they run.
    for node in nodes.iter().rev() {
        if !node.outputs.iter().any(|output| output == name) {
            continue;
        }
        chain.push(shown(node));
        match node.inputs.iter().find(|input| has_cause(input)) {
            Some(input) => name = input,
            None => break,
        }
    }
    chain.reverse();
    chain
}
