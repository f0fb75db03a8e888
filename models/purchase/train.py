"""Train the three versions of `purchase`: will this shop session end in a purchase?

    pip install -r requirements.txt
    python train.py --data online_shoppers_intention.csv [--out DIR]

Writes DIR/{1,2,3}/model.onnx (DIR: this script's folder), checks each file against
scikit-learn and prints the held-out figures and example rows that ../README.md quotes.

  1  logistic regression, scaled and one-hot encoded inside the model
  2  gradient boosting
  3  the recipe of 2, trained on an export in which PageValues was lost (all zero);
     it is worse on purpose, so that a canary rollout has something to catch
"""

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

UCI_ID = 468
UCI_PAGE = f"https://archive.ics.uci.edu/dataset/{UCI_ID}/online+shoppers+purchasing+intention+dataset"
# The UCI file without its 125 duplicate rows: 12,205 sessions.
SHA256 = "a76d91ca16f0249f93f9a3ed75a4bb25c8e03c7187a5b2c734b278725f6b59b1"

SEED = 0
HELD_OUT = 0.3
OPSETS = {"": 17, "ai.onnx.ml": 3}
TREES = 75
# Leaves are rounded to multiples of 2**-20: see `round_leaves`.
LEAF_BITS = 20

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "June", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
VISITORS = ["New_Visitor", "Returning_Visitor", "Other"]
COLUMNS = [
    "Administrative", "Administrative_Duration", "Informational", "Informational_Duration",
    "ProductRelated", "ProductRelated_Duration", "BounceRates", "ExitRates", "PageValues",
    "SpecialDay", "Month", "OperatingSystems", "Browser", "Region", "TrafficType",
    "VisitorType", "Weekend",
]  # fmt: skip
CODED = ["Month", "OperatingSystems", "Browser", "Region", "TrafficType", "VisitorType"]


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The features as callers send them (float32, [sessions, 17]) and the outcome (0 or 1)."""
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != SHA256:
        sys.exit(f"{path}: wrong file\nexpected SHA-256 {SHA256}\ngot      SHA-256 {got}\n{where_from()}")
    code: dict[str, Callable[[str], float]] = {
        "Month": lambda text: MONTHS.index(text) + 1,
        "VisitorType": VISITORS.index,
        "Weekend": lambda text: text == "TRUE",
    }
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    x = np.array([[code.get(c, float)(row[c]) for c in COLUMNS] for row in rows], np.float32)
    y = np.array([row["Revenue"] == "TRUE" for row in rows], np.int64)
    return x, y


def where_from() -> str:
    return (
        f"The data: UCI Machine Learning Repository no. {UCI_ID}, {UCI_PAGE} (CC BY 4.0),\n"
        f"online_shoppers_intention.csv without its 125 duplicate rows, SHA-256 {SHA256}"
    )


def logistic() -> ClassifierMixin:
    coded = [COLUMNS.index(c) for c in CODED]
    plain = [i for i in range(len(COLUMNS)) if i not in coded]
    # Some codes are so rare that the training share lacks them: they encode as all zeros.
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    prepare = ColumnTransformer([("plain", StandardScaler(), plain), ("coded", one_hot, coded)])
    return make_pipeline(prepare, LogisticRegression(max_iter=2000))


def boosting() -> ClassifierMixin:
    # Trees split codes well enough as numbers, so nothing is encoded here. The settings
    # were chosen by cross-validation within the training share.
    return HistGradientBoostingClassifier(
        max_iter=TREES, learning_rate=0.06, max_leaf_nodes=15, min_samples_leaf=40,
        l2_regularization=5.0, early_stopping=False, random_state=SEED,
    )  # fmt: skip


def export(model: ClassifierMixin, version: int, doc: str) -> onnx.ModelProto:
    """The model with the signature all versions share: features [batch,17] -> probability [batch,1]."""
    proto = to_onnx(
        model,
        initial_types=[("features", FloatTensorType([None, len(COLUMNS)]))],
        options={id(model): {"zipmap": False}},
        target_opset=OPSETS,
    )
    graph = proto.graph
    round_leaves(graph)
    # Keep P(purchase), the second column, and drop the label: where to draw the line
    # between the two answers is the caller's decision.
    both = graph.output[1].name
    graph.initializer.append(helper.make_tensor("purchase_column", TensorProto.INT64, [1], [1]))
    graph.node.append(helper.make_node("Gather", [both, "purchase_column"], ["probability"], axis=1))
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", len(COLUMNS)]))
    graph.output.append(helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", 1]))
    drop_unused(graph)
    # Fixed names: the converter's graph name is random, and files must be reproducible.
    graph.name = "purchase"
    graph.doc_string = ""
    # The converter can list a domain twice.
    opsets = {opset.domain: opset.version for opset in proto.opset_import}
    del proto.opset_import[:]
    proto.opset_import.extend(helper.make_opsetid(domain, opsets[domain]) for domain in sorted(opsets))
    proto.doc_string = doc
    proto.producer_name, proto.producer_version, proto.domain = "skl2onnx", "", ""
    proto.model_version = version
    onnx.checker.check_model(proto, full_check=True)
    return proto


def drop_unused(graph: onnx.GraphProto) -> None:
    """Removes the nodes and constants that only led to the dropped label."""
    needed = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed.update(node.input)
    for constant in list(graph.initializer):
        if constant.name not in needed:
            graph.initializer.remove(constant)


def round_leaves(graph: onnx.GraphProto) -> None:
    """Makes the sum over the trees exact in float32.

    ONNX Runtime spreads the trees over its threads (for more than 50 rows, or for one
    row and many trees), so the order of the sum, and with it the last bits of an answer,
    would depend on the number of threads and on the batch that a row arrived in. Sums of
    multiples of 2**-LEAF_BITS are exact, in any order, as long as they fit in 24 bits.
    """
    for node in graph.node:
        if node.op_type != "TreeEnsembleClassifier":
            continue
        values = {a.name: np.array(a.floats or a.ints) for a in node.attribute}
        largest = float(np.abs(values["base_values"]).sum())
        for tree in np.unique(values["class_treeids"]):
            largest += float(np.abs(values["class_weights"][values["class_treeids"] == tree]).max())
        assert largest < 2 ** (24 - LEAF_BITS) - 1, f"the sum may need more than 24 bits: {largest}"
        for attribute in node.attribute:
            if attribute.name in ("base_values", "class_weights"):
                attribute.floats[:] = np.round(values[attribute.name] * 2**LEAF_BITS) / 2**LEAF_BITS


def session(data: bytes, threads: int = 1) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def predict(model: ort.InferenceSession, x: np.ndarray) -> np.ndarray:
    return model.run(["probability"], {"features": x})[0]


def check(data: bytes, model: ClassifierMixin, x: np.ndarray) -> None:
    """ONNX Runtime agrees with scikit-learn; the thread count does not change a bit of its answers."""
    sessions = {threads: session(data, threads) for threads in (1, 2, 4)}
    got = predict(sessions[1], x)
    assert got.shape == (len(x), 1) and got.dtype == np.float32
    np.testing.assert_allclose(got[:, 0], model.predict_proba(x)[:, 1], rtol=0, atol=1e-5)
    for rows in (1, 2, 7, 64, 512):
        for start in range(0, len(x) - rows + 1, 64):
            part = x[start : start + rows]
            bits = {predict(s, part).tobytes() for s in sessions.values()}
            assert len(bits) == 1, f"rows {start}+{rows}: the answer depends on the thread count"


def typical(probability: np.ndarray, rows: np.ndarray) -> int:
    """Of `rows`, the one whose probability is the median."""
    return int(rows[np.argsort(probability[rows], kind="stable")[len(rows) // 2]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=where_from())
    parser.add_argument("--data", type=Path, help="online_shoppers_intention.csv (required)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write {1,2,3}/model.onnx")
    args = parser.parse_args()
    if args.data is None or not args.data.is_file():
        parser.error(f"--data must name the data file.\n{where_from()}")

    x, y = load(args.data)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=HELD_OUT, stratify=y, random_state=SEED)
    broken_x = train_x.copy()
    broken_x[:, COLUMNS.index("PageValues")] = 0
    versions = [
        (1, "logistic regression", logistic(), train_x),
        (2, "gradient boosting", boosting(), train_x),
        (3, "gradient boosting, trained without PageValues", boosting(), broken_x),
    ]

    print(f"{len(x)} sessions, {len(test_x)} ({HELD_OUT:.0%}) held out, {test_y.sum()} of them purchases\n")
    print("version  ROC AUC  average precision  log loss    bytes  model")
    answers = {}
    for version, name, model, features in versions:
        model.fit(features, train_y)
        data = export(model, version, f"Purchase probability: {name}.").SerializeToString(deterministic=True)
        check(data, model, test_x)
        path = args.out / str(version) / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        p = answers[version] = predict(session(data), test_x)[:, 0]
        print(
            f"{version:7}  {roc_auc_score(test_y, p):7.4f}  {average_precision_score(test_y, p):17.4f}"
            f"  {log_loss(test_y, p):8.4f}  {len(data):7}  {name}"
        )

    for outcome, title in ((1, "a purchase"), (0, "no purchase")):
        # Typical by version 2, so that neither is an oddity.
        row = typical(answers[2], np.flatnonzero(test_y == outcome))
        features = [int(v) if v == int(v) else float(str(v)) for v in test_x[row]]
        print(f"\nheld-out session that ended in {title}:\n{json.dumps(features)}")
        print("  ".join(f"version {v}: {p[row]:.6f}" for v, p in answers.items()))


if __name__ == "__main__":
    main()
