//! Interprets graphs over abstract values: node by node, with the subgraphs and functions that they hold.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use super::{
    super::onnx::{DimensionProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, ValueInfoProto},
    constants,
    control::{self, Subgraphs},
    extent::Extent,
    node_names::{axes, shown},
    rules::{self, Blame, Op},
    scope::Scope,
    symbols::Symbols,
    value::{Cause, Flow, Value, unproven},
};

/// Functions and graphs inside each other, as deep as they are followed.
const MAX_DEPTH: usize = 24;

/// Interprets the graphs of one model.
pub(super) struct Interpreter<'m> {
    pub symbols: Symbols,
    /// By domain and name; `None` where several have the same.
    functions: HashMap<(&'m str, &'m str), Option<&'m FunctionProto>>,
    depth: usize,
    /// Extents of the names of axes.
    names: HashMap<String, Extent>,
}

impl<'m> Interpreter<'m> {
    pub(super) fn new(functions: &'m [FunctionProto]) -> Self {
        let mut named = HashMap::new();
        for function in functions {
            let found = named.entry((&*function.domain, &*function.name));
            found.and_modify(|found| *found = None).or_insert(Some(function));
        }
        Interpreter { symbols: Symbols::new(), functions: named, depth: 0, names: HashMap::new() }
    }

    /// Adds the constants of a graph, and what its nodes give, to its scope.
    pub(super) fn run<'a>(&mut self, graph: &'a GraphProto, scope: &mut Scope<'a>) {
        self.symbols.work(graph.initializers.len());
        for tensor in &graph.initializers {
            let value = constants::value(tensor, &mut self.symbols);
            scope.values.entry(&tensor.name).or_insert(value);
        }
        // Declarations of outputs that no other node reads decide nothing.
        let read: HashSet<&str> = graph.nodes.iter().flat_map(|node| &node.inputs).map(String::as_str).collect();
        let is_read = scope.outer.is_some() || graph.nodes.iter().any(has_graphs);
        let outputs = graph.outputs.iter().filter(|info| is_read || read.contains(info.name.as_str()));
        let declared = graph.values.iter().chain(&graph.inputs).chain(outputs);
        self.run_nodes(&graph.nodes, declared, scope);
    }

    /// A value whose shape is declared to be another: ONNX Runtime takes what is declared for the shape.
    fn contradiction(&mut self, info: &ValueInfoProto, value: &Value) -> Option<Value> {
        let (declared, shape) = (axes(info)?, value.shape.as_ref()?);
        let (symbols, names) = (&self.symbols, &mut self.names);
        // Axes of one name have one extent for it, too: that of the batch must not be taken for another.
        let fits = |(dimension, extent): (&DimensionProto, &Extent)| match (dimension.extent, dimension.name.as_deref())
        {
            (Some(declared @ 0..), _) => symbols.may_be(extent, declared),
            (_, None | Some("")) => true,
            (_, Some(name)) => {
                let known = names.entry(name.to_owned()).or_insert_with(|| extent.clone());
                *known == *extent || !symbols.is_of_batch(known) && !symbols.is_of_batch(extent)
            }
        };
        let fits = declared.len() == shape.len() && declared.iter().zip(shape.iter()).all(fits);
        let is_lost = matches!(value.flow, Flow::Mixed(_) | Flow::Unproven(_));
        let why = || format!("the model declares another shape of '{}' than its inputs give it", info.name);
        match (fits, is_lost) {
            (true, _) => None,
            (false, true) => Some(Value::of(value.flow.clone(), None, value.element)),
            (false, false) => Some(unproven(&info.name, why())),
        }
    }

    fn run_nodes<'a>(
        &mut self,
        nodes: &'a [NodeProto],
        declared: impl Iterator<Item = &'a ValueInfoProto>,
        scope: &mut Scope<'a>,
    ) {
        let mut by_name: HashMap<&str, Vec<&ValueInfoProto>> = HashMap::new();
        for info in declared {
            self.symbols.work(1);
            // Values that are here already: inputs, and what is captured.
            if let Some(lost) = scope.get(&info.name).and_then(|value| self.contradiction(info, value)) {
                scope.values.insert(&info.name, lost);
            }
            by_name.entry(&info.name).or_default().push(info);
        }
        for node in nodes {
            self.symbols.work(1 + node.inputs.len() + node.outputs.len());
            let outputs = self.node(node, scope);
            for (name, value) in node.outputs.iter().zip(outputs).filter(|(name, _)| !name.is_empty()) {
                let mut declared = by_name.get(name.as_str()).into_iter().flatten();
                let lost = declared.find_map(|info| self.contradiction(info, &value));
                scope.values.insert(name, lost.unwrap_or(value));
            }
        }
    }

    /// ONNX Runtime runs the nodes of a function with the operator sets of the model, whatever the function imports.
    fn function(
        &mut self,
        function: &FunctionProto,
        node: &NodeProto,
        inputs: &[Option<Value>],
        scope: &Scope<'_>,
    ) -> Vec<Value> {
        let differs =
            |opset: &OperatorSetIdProto| scope.opset(&opset.domain).is_some_and(|version| version != opset.version);
        if function.opsets.iter().any(differs) {
            return all(
                node,
                &unproven(&shown(node), "the function imports other operator sets than the model".into()),
            );
        }
        let mut scope =
            Scope { values: HashMap::new(), outer: None, opsets: scope.opsets, caller: Some((function, node)) };
        let given = function.inputs.iter().zip(inputs);
        scope.values.extend(given.filter_map(|(name, value)| Some((name.as_str(), value.clone()?))));
        if self.depth == MAX_DEPTH {
            return function.outputs.iter().map(|name| too_deep(name)).collect();
        }
        self.depth += 1;
        self.run_nodes(&function.nodes, function.values.iter(), &mut scope);
        self.depth -= 1;
        let undefined = |name: &str| unproven(name, format!("'{name}' is defined nowhere"));
        function.outputs.iter().map(|name| scope.get(name).cloned().unwrap_or_else(|| undefined(name))).collect()
    }

    /// The values of a node's outputs.
    fn node(&mut self, node: &NodeProto, scope: &Scope<'_>) -> Vec<Value> {
        if self.symbols.is_exhausted() {
            return all(node, &unproven(&shown(node), "the model is too large to be followed to its end".into()));
        }
        let resolved = scope.resolved(node);
        let node = resolved.as_ref().unwrap_or(node);
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            // A function may be called without some of its inputs.
            let is_left_out = name.is_empty()
                || scope.caller.is_some_and(|(function, _)| function.inputs.contains(name))
                    && scope.get(name).is_none();
            match scope.get(name) {
                _ if is_left_out => inputs.push(None),
                Some(value) => inputs.push(Some(value.clone())),
                None => return all(node, &unproven(&shown(node), format!("its input '{name}' is defined nowhere"))),
            }
        }
        while inputs.last().is_some_and(Option::is_none) {
            inputs.pop();
        }
        let asks_for_shape = matches!(node.operator.as_str(), "Shape" | "Size");
        let lost = |mixed: bool| {
            inputs.iter().flatten().find(|value| match value.flow {
                // A shape can be known where the elements are lost.
                Flow::Mixed(_) if asks_for_shape && value.shape.is_some() => false,
                Flow::Mixed(_) => mixed,
                Flow::Unproven(_) => !mixed,
                _ => false,
            })
        };
        if let Some(lost) = lost(true).or_else(|| lost(false)) {
            return all(node, lost);
        }
        if let Some(function) = self.functions.get(&(node.domain.as_str(), node.operator.as_str())).copied() {
            let why = match function {
                None => "several functions have its name",
                // Where ONNX Runtime has a kernel of that name, the function is not used.
                Some(_) if rules::is_domain_of_kernels(&node.domain) => "a function has the name of an operator",
                Some(function) => return self.function(function, node, &inputs, scope),
            };
            return all(node, &unproven(&shown(node), why.into()));
        }
        // An Identity is the same in all, and what ZipMaps become in models that import nothing else of its domain.
        let opset = scope.opset(&node.domain).or((node.operator == "Identity").then_some(1));
        let Some(opset) = opset else {
            let why = format!("the model does not say once which operator set of '{}' it imports", node.domain);
            return all(node, &unproven(&shown(node), why));
        };
        let op = Op { node, inputs, opset };
        let given = match node.operator.as_str() {
            "Constant" => Ok(vec![constants::constant_node(node, &mut self.symbols)]),
            "If" => control::branch(self, &op, scope),
            "Loop" => control::repeat(self, &op, scope),
            "Scan" => control::scan(self, &op, scope),
            _ => rules::apply(&op, &mut self.symbols),
        };
        match given {
            Ok(mut values) => {
                let missing = unproven(&shown(node), "nothing is known of some of its outputs".into());
                values.resize(node.outputs.len().max(values.len()), missing);
                values
            }
            Err(_) if op.inputs.iter().flatten().all(Value::is_constant) && !is_random(node) && !has_graphs(node) => {
                let element = op.inputs.first().and_then(|first| Some(first.as_ref()?.element)).unwrap_or(0);
                let mut values = all(node, &Value::constant(element, None));
                if let Some(first) = values.first_mut() {
                    first.shape = rules::constant_shape(&op, &mut self.symbols);
                }
                values
            }
            Err(blame) => all(node, &blamed(node, blame)),
        }
    }
}

impl Subgraphs for Interpreter<'_> {
    fn subgraph(&mut self, graph: &GraphProto, outer: &Scope<'_>, inputs: Vec<Value>) -> Vec<Value> {
        let mut scope = Scope::inside(outer);
        scope.values.extend(graph.inputs.iter().map(|info| &*info.name).zip(inputs));
        if self.depth == MAX_DEPTH {
            return graph.outputs.iter().map(|info| too_deep(&info.name)).collect();
        }
        self.depth += 1;
        self.run(graph, &mut scope);
        self.depth -= 1;
        let undefined = |name: &str| unproven(name, format!("'{name}' is defined nowhere"));
        graph
            .outputs
            .iter()
            .map(|info| scope.get(&info.name).cloned().unwrap_or_else(|| undefined(&info.name)))
            .collect()
    }

    fn symbols(&mut self) -> &mut Symbols {
        &mut self.symbols
    }
}

/// One value for all outputs of a node, whose shapes are not known.
fn all(node: &NodeProto, value: &Value) -> Vec<Value> {
    vec![Value::of(value.flow.clone(), None, value.element); node.outputs.len()]
}

fn is_random(node: &NodeProto) -> bool {
    node.operator.starts_with("Random") || matches!(&*node.operator, "Bernoulli" | "Multinomial" | "Dropout")
}

fn has_graphs(node: &NodeProto) -> bool {
    node.attributes.iter().any(|attribute| attribute.graph.is_some() || !attribute.graphs.is_empty())
}

/// A value that is computed deeper inside graphs and functions than they are followed.
fn too_deep(name: &str) -> Value {
    unproven(name, format!("functions and graphs are followed {MAX_DEPTH} deep, and these are deeper"))
}

fn blamed(node: &NodeProto, blame: Blame) -> Value {
    let cause = |why| Rc::new(Cause { node: shown(node), why });
    let flow = match blame {
        Blame::Mixes(why) => Flow::Mixed(cause(why)),
        Blame::Unproven(why) => Flow::Unproven(cause(why)),
    };
    Value::of(flow, None, 0)
}
