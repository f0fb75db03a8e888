"""Make the classifiers here as scikit-learn's exporter makes them by default: with a ZipMap at the end.

    pip install -r ../../models/purchase/requirements.txt
    python make.py

Logistic regressions, whose classes are numbers or strings, two or three of them; and one of a pipeline of which columns are
strings. Axis 0 has no name, which is the exporter's default too.
"""

from pathlib import Path

import numpy as np
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

HERE = Path(__file__).parent


def save(name, model, types):
    proto = to_onnx(model, initial_types=types, target_opset={"": 17, "ai.onnx.ml": 3})
    # The exporter's name is random, and files must be reproducible.
    proto.graph.name = name
    assert any(node.op_type == "ZipMap" for node in proto.graph.node)
    onnx.checker.check_model(proto)
    data = proto.SerializeToString(deterministic=True)
    (HERE / f"{name}.onnx").write_bytes(data)
    print(f"{name}.onnx: {len(data)} bytes")


def main():
    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    names = np.array(["setosa", "versicolor", "virginica"])
    four = [("X", FloatTensorType([None, 4]))]
    for classes, chosen in (("binary", y > 0), ("multiclass", y >= 0)):
        for kind, labels in (("int64", y), ("string", names[y])):
            model = LogisticRegression(max_iter=1000).fit(x[chosen], labels[chosen])
            save(f"{classes}_{kind}", model, four)
    colours = np.array(["blue", "blue and white", "purple"])[y]
    table = np.array([colours, [f"{length:.1f}" for length in x[:, 0]]], dtype=object).T
    columns = [("colour", StringTensorType([None, 1])), ("length", FloatTensorType([None, 1]))]
    prepare = ColumnTransformer(
        [("colour", OneHotEncoder(handle_unknown="ignore"), [0]), ("length", "passthrough", [1])]
    )
    save("words", make_pipeline(prepare, LogisticRegression(max_iter=1000)).fit(table, names[y]), columns)


if __name__ == "__main__":
    main()
