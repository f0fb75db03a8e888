"""Write a test case for every version of every sample model: what it must answer before it serves.

    pip install -r purchase/requirements.txt
    python make_cases.py

Writes <model>/<version>/tests/*.json: the examples of README.md, with the answers of onnxruntime.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "magika"))
import identify

DATATYPES = {"float32": "FP32", "int32": "INT32", "object": "BYTES"}

SESSIONS = [
    [1, 29.5, 0, 0, 26, 1659.8667, 0.008, 0.016, 21.819208, 0, 11, 2, 5, 2, 1, 1, 0],
    [1, 60.5, 0, 0, 31, 1574.375, 0, 0.022580644, 0, 0, 12, 2, 2, 3, 1, 1, 0],
]
WORDS = [("Nov", "Returning_Visitor"), ("May", "New_Visitor"), ("Vendémiaire", "")]
NUMBERS = [(21.8, 0.016, 26), (0, 0.023, 31)]


# This model amplifies what kernels of other processors round differently.
TOLERANCES = {"magika": {"absolute": 0.01, "relative": 0.01}}


def column(values, dtype):
    return np.array(values, dtype).reshape(-1, 1)


def examples():
    """By model: the file's name, what it shows, and inputs."""
    shoppers = [(*words, *numbers) for numbers in NUMBERS for words in WORDS]
    month, visitor, value, rate, pages = zip(*shoppers)
    file = (HERE / "simple" / "1" / "model.onnx").read_bytes()
    count = np.arange(32, dtype=np.int32).reshape(2, 16)
    return {
        "magika": (
            "onnx_file",
            "simple/1/model.onnx is an ONNX file",
            {"bytes": np.array([identify.features(file)], np.int32)},
        ),
        "purchase": (
            "two_sessions",
            "Two sessions, of which the first ended in a purchase",
            {"features": np.array(SESSIONS, np.float32)},
        ),
        "shopper": (
            "known_and_unknown_words",
            "Two sessions in three kinds of words",
            {
                "month": column(month, object),
                "visitor_type": column(visitor, object),
                "page_value": column(value, np.float32),
                "exit_rate": column(rate, np.float32),
                "product_pages": column(pages, np.float32),
            },
        ),
        "simple": ("two_rows", "Sums and differences", {"INPUT0": count, "INPUT1": np.full_like(count, 3)}),
    }


def tensor(name, array):
    # The shortest text that is read as the same float32.
    data = [float(str(x)) if array.dtype == np.float32 else x for x in array.ravel()]
    data = [int(x) if isinstance(x, np.integer) or isinstance(x, float) and x == int(x) else x for x in data]
    return {"name": name, "datatype": DATATYPES[array.dtype.name], "shape": list(array.shape), "data": data}


def main():
    for model, (name, description, inputs) in examples().items():
        for path in sorted((HERE / model).glob("*/model.onnx")):
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            outputs = [output.name for output in session.get_outputs()]
            answers = session.run(outputs, inputs)
            case = {
                "description": description,
                **({"tolerance": TOLERANCES[model]} if model in TOLERANCES else {}),
                "inputs": [tensor(name, array) for name, array in inputs.items()],
                "outputs": [tensor(name, array) for name, array in zip(outputs, answers)],
            }
            file = path.parent / "tests" / f"{name}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(case, ensure_ascii=False) + "\n", encoding="utf-8")
            print(file.relative_to(HERE), file.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
