use super::{
    super::onnx::{
        AttributeProto, DimensionProto, FLOAT, GraphProto, INT64, ModelProto, NodeProto, OperatorSetIdProto,
        TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    },
    RowProof, analyse,
};

fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    let inputs = inputs.iter().map(ToString::to_string).collect();
    NodeProto { operator: operator.into(), inputs, outputs: vec![output.into()], ..NodeProto::default() }
}

fn with_axis(node: NodeProto, axis: i64) -> NodeProto {
    NodeProto {
        attributes: vec![AttributeProto { name: "axis".into(), integer: axis, ..AttributeProto::default() }],
        ..node
    }
}

fn numbers(name: &str, numbers: &[i64]) -> TensorProto {
    let extents = vec![numbers.len() as i64];
    TensorProto { name: name.into(), extents, element: INT64, int64_data: numbers.to_vec(), ..TensorProto::default() }
}

/// A tensor `[batch, 16]`.
fn rows_of_16(name: &str) -> ValueInfoProto {
    let batch = DimensionProto { extent: None, name: Some("batch".into()) };
    let shape = Some(TensorShapeProto { dimensions: vec![batch, DimensionProto { extent: Some(16), name: None }] });
    ValueInfoProto {
        name: name.into(),
        kind: Some(TypeProto { tensor: Some(TensorTypeProto { element: FLOAT, shape }) }),
    }
}

/// So many layers, each reshaped by its own shape and back, and behind them a softmax over an axis. Eight nodes a layer.
fn layers(count: usize, softmax_axis: i64) -> ModelProto {
    let (mut nodes, mut before) = (Vec::new(), "x".to_owned());
    for layer in 0..count {
        let of = |name: &str| format!("{name}{layer}");
        nodes.extend([
            node("MatMul", &[&before, "weights"], &of("product")),
            node("Add", &[&of("product"), "bias"], &of("sum")),
            node("Shape", &[&of("sum")], &of("shape")),
            node("Slice", &[&of("shape"), "zero", "one", "zero"], &of("batch")),
            with_axis(node("Concat", &[&of("batch"), "four_by_four"], &of("target")), 0),
            node("Reshape", &[&of("sum"), &of("target")], &of("square")),
            node("Relu", &[&of("square")], &of("relu")),
            node("Reshape", &[&of("relu"), "flat"], &of("y")),
        ]);
        before = of("y");
    }
    nodes.push(with_axis(node("Softmax", &[&before], "y"), softmax_axis));
    let weights =
        TensorProto { name: "weights".into(), extents: vec![16, 16], element: FLOAT, ..TensorProto::default() };
    let bias = TensorProto { name: "bias".into(), extents: vec![16], element: FLOAT, ..TensorProto::default() };
    let shapes = [("zero", &[0][..]), ("one", &[1]), ("four_by_four", &[4, 4]), ("flat", &[-1, 16])];
    let initializers = shapes.map(|(name, values)| numbers(name, values)).into_iter().chain([weights, bias]).collect();
    let graph = GraphProto {
        nodes,
        initializers,
        inputs: vec![rows_of_16("x")],
        outputs: vec![rows_of_16("y")],
        ..GraphProto::default()
    };
    let opsets = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    ModelProto { graph: Some(graph), opsets, ..ModelProto::default() }
}

#[test]
fn graphs_of_ten_thousand_nodes_are_followed_to_their_end() {
    assert_eq!(analyse(&layers(1_250, 1)).proof, RowProof::Proven);
    let RowProof::Mixes(finding) = analyse(&layers(1_250, 0)).proof else {
        panic!("a softmax over the rows mixes them")
    };
    assert!(finding.why.starts_with("Softmax 'y': "), "{finding}");
}

#[test]
fn chain_leads_from_the_node_that_mixes_to_the_output() {
    let mut model = layers(1, 0);
    let graph = model.graph.as_mut().unwrap();
    graph.nodes.push(node("Relu", &["y"], "z"));
    graph.outputs = vec![rows_of_16("z")];
    let RowProof::Mixes(finding) = analyse(&model).proof else { panic!("a softmax over the rows mixes them") };
    assert_eq!(finding.chain, ["Softmax 'y'", "Relu 'z'"]);
}
