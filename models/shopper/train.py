"""Train `shopper`: is this shop session likely to end in a purchase? Asked in the words of the shop's application.

    pip install -r ../purchase/requirements.txt
    python train.py --data online_shoppers_intention.csv [--out DIR]

Writes DIR/1/model.onnx (DIR: this script's folder), checks it against scikit-learn and prints the held-out figures and
example answers that ../README.md quotes. It is the gradient boosting of `purchase` on the five features that matter most,
two of which come as strings; the decision goes out as a string.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import ClassifierMixin
from sklearn.metrics import average_precision_score, f1_score, log_loss, precision_score, recall_score, roc_auc_score
from sklearn.model_selection import cross_val_predict, train_test_split

# Data, split, settings and what makes files reproducible are those of `purchase`.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "purchase"))
import train as purchase

# The inputs, and the columns that they are.
NUMBERS = {"page_value": "PageValues", "exit_rate": "ExitRates", "product_pages": "ProductRelated"}
WORDS = {"month": "Month", "visitor_type": "VisitorType"}

LONG_MONTHS = [
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
]  # fmt: skip
# The codes of `purchase`, and every spelling that is understood. January and April do not occur in the data, so they are
# no better known than any other word.
CODES = {
    "month": {
        **{name: code for code, name in enumerate(purchase.MONTHS, 1) if name not in ("Jan", "Apr")},
        **{name: code for code, name in enumerate(LONG_MONTHS, 1) if name not in ("January", "April")},
        "Jun": 6,
    },
    "visitor_type": {name: code for code, name in enumerate(purchase.VISITORS)},
}
UNKNOWN = -1
# The share of words that are withheld in training, so that the model has seen what it answers without them.
WITHHELD = 0.1

DECISIONS = ("no_purchase", "purchase")


def withhold(x: np.ndarray) -> np.ndarray:
    """Some words made unknown, independently of each other."""
    random, x = np.random.default_rng(purchase.SEED), x.copy()
    for column in range(len(NUMBERS), x.shape[1]):
        x[random.random(len(x)) < WITHHELD, column] = UNKNOWN
    return x


def best_threshold(model: ClassifierMixin, x: np.ndarray, y: np.ndarray) -> float:
    """The probability from which on to say "purchase": the best F1 in cross-validation within the training share."""
    p = cross_val_predict(model, x, y, cv=5, method="predict_proba")[:, 1]
    return max((t / 100 for t in range(5, 96)), key=lambda t: f1_score(y, p >= t))


def export(model: ClassifierMixin, threshold: float) -> onnx.ModelProto:
    columns = len(NUMBERS) + len(WORDS)
    proto = to_onnx(
        model,
        initial_types=[("features", FloatTensorType([None, columns]))],
        options={id(model): {"zipmap": False}},
        target_opset=purchase.OPSETS,
    )
    graph = proto.graph
    purchase.round_leaves(graph)
    both = graph.output[1].name
    before = [
        helper.make_node(
            "LabelEncoder",
            [word],
            [f"{word}_code"],
            domain="ai.onnx.ml",
            keys_strings=list(CODES[word]),
            values_floats=[float(code) for code in CODES[word].values()],
            default_float=float(UNKNOWN),
        )
        for word in WORDS
    ]
    before.append(helper.make_node("Concat", [*NUMBERS, *(f"{word}_code" for word in WORDS)], ["features"], axis=1))
    after = [
        helper.make_node("Gather", [both, "purchase_column"], ["probability"], axis=1),
        helper.make_node("GreaterOrEqual", ["probability", "threshold"], ["likely"]),
        helper.make_node("Where", ["likely", "yes", "no"], ["decision"]),
    ]
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    no, yes = (word.encode() for word in DECISIONS)
    graph.initializer.extend(
        [
            helper.make_tensor("purchase_column", TensorProto.INT64, [1], [1]),
            helper.make_tensor("threshold", TensorProto.FLOAT, [], [threshold]),
            helper.make_tensor("yes", TensorProto.STRING, [], [yes]),
            helper.make_tensor("no", TensorProto.STRING, [], [no]),
        ]
    )
    column = ["batch", 1]
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.STRING, column) for name in WORDS)
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, column) for name in NUMBERS)
    graph.output.append(helper.make_tensor_value_info("probability", TensorProto.FLOAT, column))
    graph.output.append(helper.make_tensor_value_info("decision", TensorProto.STRING, column))
    purchase.drop_unused(graph)
    # Fixed names: the converter's graph name is random, and files must be reproducible.
    graph.name = "shopper"
    graph.doc_string = ""
    del proto.opset_import[:]
    proto.opset_import.extend(helper.make_opsetid(*opset) for opset in sorted(purchase.OPSETS.items()))
    proto.doc_string = "Purchase probability of a shop session, from words and numbers: gradient boosting."
    proto.producer_name, proto.producer_version, proto.domain = "skl2onnx", "", ""
    proto.model_version = 1
    onnx.checker.check_model(proto, full_check=True)
    return proto


def as_asked(x: np.ndarray) -> dict[str, np.ndarray]:
    """The model's inputs for coded features: the spellings of the data, and an empty string for unknown words."""
    inputs = {name: x[:, [column]] for column, name in enumerate(NUMBERS)}
    for column, word in enumerate(WORDS, len(NUMBERS)):
        spelling = {code: name for name, code in reversed(CODES[word].items())}
        inputs[word] = np.array([[spelling.get(code, "")] for code in x[:, column]], object)
    return inputs


def predict(model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probability, decision = model.run(["probability", "decision"], as_asked(x))
    return probability[:, 0], decision[:, 0]


def check(data: bytes, model: ClassifierMixin, threshold: float, x: np.ndarray) -> None:
    """ONNX Runtime agrees with scikit-learn; neither the thread count nor the batch changes a bit of its answers."""
    sessions = [purchase.session(data, threads) for threads in (1, 2, 4)]
    p, decision = predict(sessions[0], x)
    np.testing.assert_allclose(p, model.predict_proba(x)[:, 1], rtol=0, atol=1e-5)
    assert (decision == np.where(p >= np.float32(threshold), DECISIONS[1], DECISIONS[0])).all()
    for rows in (1, 2, 7, 64, 512):
        for start in range(0, len(x) - rows + 1, 64):
            for session in sessions:
                part = predict(session, x[start : start + rows])[0]
                assert part.tobytes() == p[start : start + rows].tobytes(), f"rows {start}+{rows} differ"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=purchase.where_from())
    parser.add_argument("--data", type=Path, help="online_shoppers_intention.csv (required)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write 1/model.onnx")
    args = parser.parse_args()
    if args.data is None or not args.data.is_file():
        parser.error(f"--data must name the data file.\n{purchase.where_from()}")

    x, y = purchase.load(args.data)
    x = x[:, [purchase.COLUMNS.index(column) for column in (*NUMBERS.values(), *WORDS.values())]]
    train_x, test_x, train_y, test_y = train_test_split(
        x, y, test_size=purchase.HELD_OUT, stratify=y, random_state=purchase.SEED
    )
    train_x = withhold(train_x)
    model = purchase.boosting()
    threshold = best_threshold(model, train_x, train_y)
    model.fit(train_x, train_y)
    data = export(model, threshold).SerializeToString(deterministic=True)
    unknown = test_x.copy()
    unknown[:, len(NUMBERS) :] = UNKNOWN
    for features in (test_x, unknown):
        check(data, model, threshold, features)
    path = args.out / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    print(f"1/model.onnx: {len(data)} bytes; 'purchase' from a probability of {threshold} on\n")

    session = purchase.session(data)
    print("words    ROC AUC  average precision  log loss  precision  recall")
    for name, features in (("known", test_x), ("unknown", unknown)):
        p, decision = predict(session, features)
        likely = decision == DECISIONS[1]
        print(
            f"{name:7}  {roc_auc_score(test_y, p):7.4f}  {average_precision_score(test_y, p):17.4f}"
            f"  {log_loss(test_y, p):8.4f}  {precision_score(test_y, likely):9.3f}  {recall_score(test_y, likely):6.3f}"
        )

    print("\npage_value  exit_rate  product_pages  month         visitor_type       probability  decision")
    for numbers in ((21.8, 0.016, 26), (0.0, 0.023, 31)):
        for words in (("Nov", "Returning_Visitor"), ("May", "New_Visitor"), ("Vendémiaire", "")):
            inputs = {name: np.array([[value]], np.float32) for name, value in zip(NUMBERS, numbers)}
            inputs |= {name: np.array([[value]], object) for name, value in zip(WORDS, words)}
            p, decision = session.run(["probability", "decision"], inputs)
            shown = "  ".join(f"{value!s:{width}}" for value, width in zip((*numbers, *words), (10, 9, 13, 12, 17)))
            print(f"{shown}  {p[0, 0]:.6f}     {decision[0, 0]}")


if __name__ == "__main__":
    main()
