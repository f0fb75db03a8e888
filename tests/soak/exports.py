"""Serves what scikit-learn, LightGBM, XGBoost and CatBoost export by default, and holds the answers against ONNX Runtime's, bit for
bit:

    pip install catboost==1.2.10 lightgbm==4.7.0 onnxmltools==1.16.0 pandas==3.1.1 scikit-learn==1.9.1 skl2onnx==1.20.0 xgboost==3.2.0
    python3 tests/soak/exports.py --binary target/release/onnxd

Needs what `tests/soak/requirements.txt` names too. ONNX Runtime runs the models with their ZipMaps made Identity, as the server
does: it loads none over FP64, and none over several outputs. It fails where a model is not served that ONNX Runtime runs so."""

import argparse
import json
import pathlib
import sys
import tempfile
import warnings

import catboost
import lightgbm
import numpy
import onnx
import onnxmltools
import onnxruntime
import pandas
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from sklearn import calibration, cluster, datasets, decomposition, ensemble, linear_model, mixture, multiclass
from sklearn import multioutput, naive_bayes, neighbors, neural_network, pipeline, preprocessing, svm, tree

import common

X, Y = datasets.load_iris(return_X_y=True)
SINGLE = X.astype(numpy.float32)
NAMES = numpy.array(["setosa", "versicolor", "virginica"])[Y]
TWO = (Y > 0).astype(int)
WORDS = numpy.where(TWO, "yes", "no")
SEVERAL, SEVERAL_WORDS = numpy.stack([Y, TWO], 1), numpy.stack([NAMES, WORDS], 1)
LABELS = numpy.stack([TWO, Y > 1, Y == 0], 1).astype(int)
ROWS = SINGLE[[0, 60, 120]]


def logistic():
    return linear_model.LogisticRegression(max_iter=500)


def of_scikit_learn():
    """Models with what they are fitted to."""
    forest = ensemble.RandomForestClassifier
    for name, rows in (("", SINGLE), ("_fp64", X)):
        yield f"logistic{name}", logistic(), rows, Y
        yield f"logistic_words{name}", logistic(), rows, NAMES
        yield f"forest{name}", forest(5), rows, NAMES
        yield f"histogram{name}", ensemble.HistGradientBoostingClassifier(max_iter=3), rows, Y
        yield f"several{name}", multioutput.MultiOutputClassifier(logistic()), rows, SEVERAL
        yield f"linear{name}", linear_model.LinearRegression(), rows, Y.astype(float)
        scaled = [preprocessing.StandardScaler(), lightgbm.LGBMClassifier(n_estimators=3, verbose=-1)]
        yield f"lightgbm_pipeline{name}", pipeline.make_pipeline(*scaled), rows, Y
        scaled = [preprocessing.StandardScaler(), xgboost.XGBClassifier(n_estimators=3)]
        yield f"xgboost_pipeline{name}", pipeline.make_pipeline(*scaled), rows, Y
    yield "several_words", multioutput.MultiOutputClassifier(logistic()), SINGLE, SEVERAL_WORDS
    yield "several_regressions", multioutput.MultiOutputRegressor(linear_model.LinearRegression()), SINGLE, SEVERAL
    for name, model in (
        ("forest", forest(5)),
        ("neighbors", neighbors.KNeighborsClassifier(3)),
        ("network", neural_network.MLPClassifier((4,), max_iter=50)),
        ("one_against_rest", multiclass.OneVsRestClassifier(logistic())),
    ):
        yield f"labels_{name}", model, SINGLE, LABELS
    for name, model in (
        ("booleans", logistic()),
        ("tree", tree.DecisionTreeClassifier()),
        ("neighbors", neighbors.KNeighborsClassifier(3)),
        ("network", neural_network.MLPClassifier((4,), max_iter=50)),
        ("svc", svm.SVC(probability=True)),
        ("svc_without", svm.SVC()),
        ("linear_svc", svm.LinearSVC()),
        ("bayes", naive_bayes.GaussianNB()),
        ("boosting", ensemble.GradientBoostingClassifier(n_estimators=3)),
        ("ada", ensemble.AdaBoostClassifier(n_estimators=3)),
        ("bagging", ensemble.BaggingClassifier(tree.DecisionTreeClassifier(), 3)),
        ("calibrated", calibration.CalibratedClassifierCV(svm.LinearSVC())),
        ("one_against_one", multiclass.OneVsOneClassifier(logistic())),
        ("clusters", cluster.KMeans(3)),
        ("components", decomposition.PCA(2)),
        ("mixture", mixture.GaussianMixture(2)),
        ("scaler", preprocessing.StandardScaler()),
    ):
        yield name, model, SINGLE, TWO.astype(bool) if name == "booleans" else Y


def of_others():
    """Functions that make models."""
    kinds = [("input", FloatTensorType([None, 4]))]
    for name, classes in (("two", TWO), ("three", Y), ("words", NAMES)):
        boosted = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(SINGLE, classes)
        yield f"lightgbm_{name}", lambda model=boosted: onnxmltools.convert_lightgbm(model, initial_types=kinds)
        if name != "words":
            boosted = xgboost.XGBClassifier(n_estimators=3).fit(SINGLE, classes)
            yield f"xgboost_{name}", lambda model=boosted: onnxmltools.convert_xgboost(model, initial_types=kinds)
    boosted = lightgbm.LGBMRegressor(n_estimators=3, verbose=-1).fit(SINGLE, Y)
    yield "lightgbm_numbers", lambda model=boosted: onnxmltools.convert_lightgbm(model, initial_types=kinds)
    boosted = xgboost.XGBRegressor(n_estimators=3).fit(SINGLE, Y)
    yield "xgboost_numbers", lambda model=boosted: onnxmltools.convert_xgboost(model, initial_types=kinds)
    quick = {"iterations": 3, "allow_writing_files": False}
    for name, model, classes in (
        ("two", catboost.CatBoostClassifier(**quick), TWO),
        ("three", catboost.CatBoostClassifier(**quick), Y),
        ("words", catboost.CatBoostClassifier(**quick), NAMES),
        ("labels", catboost.CatBoostClassifier(**quick, loss_function="MultiLogloss"), LABELS),
        ("numbers", catboost.CatBoostRegressor(**quick), Y.astype(float)),
    ):
        yield f"catboost_{name}", lambda model=model, classes=classes: of_catboost(model, classes)


def of_catboost(model, classes):
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder, "model.onnx"))
        model.fit(pandas.DataFrame(SINGLE), classes, verbose=False).save_model(path, format="onnx")
        return onnx.load(path)


def expected(model, rows):
    """What ONNX Runtime answers, with ZipMaps made Identity and sequences taken apart."""
    for node in [node for node in model.graph.node if node.op_type == "ZipMap"]:
        model.graph.node.remove(node)
        model.graph.node.append(onnx.helper.make_node("Identity", node.input, node.output))
        for output in model.graph.output:
            if output.name == node.output[0]:
                output.ClearField("type")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answers = session.run(None, {session.get_inputs()[0].name: rows})
    return [part for answer in answers for part in (answer if isinstance(answer, list) else [answer])]


def fault(server, name, rows, input_name, answers):
    """What is wrong with the server's answer; `None` where nothing is."""
    datatype = "FP64" if rows.dtype == numpy.float64 else "FP32"
    tensor = {"name": input_name, "datatype": datatype, "shape": rows.shape, "data": rows.ravel().tolist()}
    status, answer = server.ask("http", "POST", f"/v2/models/{name}/infer", {"inputs": [tensor]})
    if status != 200:
        return f"HTTP {status}: {answer}"
    outputs = answer["outputs"]
    if len(outputs) != len(answers):
        return f"expected {len(answers)} outputs, got {[output['name'] for output in outputs]}"
    for output, right in zip(outputs, answers):
        got = numpy.array(output["data"], right.dtype).reshape(output["shape"])
        if got.shape != right.shape or not numpy.array_equal(got, right):
            return f"{output['name']}: expected {right.tolist()}, got {got.tolist()}"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    binary = parser.parse_args().binary
    warnings.filterwarnings("ignore")
    for model, convert in ((lightgbm.LGBMClassifier, convert_lightgbm), (xgboost.XGBClassifier, convert_xgboost)):
        options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
        shapes = calculate_linear_classifier_output_shapes
        update_registered_converter(model, model.__name__, shapes, convert, options=options)
    opset = {"": 17, "ai.onnx.ml": 3}
    made = [(name, rows, lambda m=model, r=rows, y=classes: to_onnx(m.fit(r, y), r[:1], target_opset=opset))
            for name, model, rows, classes in of_scikit_learn()]
    made += [(name, SINGLE, make) for name, make in of_others()]
    faults, cases = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, rows, make in made:
            model = make()
            path = pathlib.Path(folder, f"{name}.onnx")
            onnx.save(model, path)
            rows = ROWS.astype(rows.dtype)
            cases.append((name, rows, model.graph.input[0].name, expected(model, rows)))
        with common.Server(binary, folder, "--trial", "off") as server:
            for case in cases:
                if wrong := fault(server, *case):
                    faults.append(f"{case[0]}: {wrong}")
    print(json.dumps({"models": len(cases), "faults": faults}, indent=1))
    sys.exit(bool(faults))


main()
