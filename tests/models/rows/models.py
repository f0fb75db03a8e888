"""Small ONNX models in text form, in collections that are written to a folder.

`$[0, 1]` in a body is a constant vector of int64, `$3` a scalar of int64, `$0.5` a scalar of float, and `@[4, 3]` a float weight
of that shape. Every fourth model leaves axis 0 without a name, as converters of classical models do: `batch` becomes `?`."""

import json
import pathlib
import re
import sys

import numpy as np
import onnx
from onnx import numpy_helper, parser

DOMAINS = '"ai.onnx.ml": 3, "com.microsoft": 1'
LOCAL_DOMAIN = '"local": 1'
X, Y = "float[batch,4] x", "float[batch,4] y"
CONSTANT = re.compile(r"[$@](\[[^\]]*\]|-?[0-9][0-9.e+-]*)")


class Model:
    """A model in text form and the reason why its rows meet, or why they don't.

    `constants` holds arrays by name, `declared` shapes of inner tensors. `functions` are the model's own. `edit` changes the
    finished model. `witness` names rows and values that show a coupling, where random draws don't, `extents` the inner
    symbolic dimensions that show it. `unverified` says why no comparison of rows can show it."""

    def __init__(self, family, how, body, inputs=X, outputs=Y, opset=18, functions="", witness=None, constants=None, declared="",
                 edit=None, extents=None, unverified=None):
        self.family, self.how, self.body, self.inputs, self.outputs = family, how, body, inputs, outputs
        self.opset, self.functions, self.witness, self.constants, self.declared = opset, functions, witness, constants or {}, declared
        self.edit, self.extents, self.unverified = edit, extents, unverified

    def proto(self, name, unnamed):
        """The model; where `unnamed`, axis 0 has no name."""
        made, random = {}, np.random.default_rng(0)

        def constant(match):
            token = match.group(0)
            if token not in made:
                value = json.loads(token[1:])
                array = random.standard_normal(value) if token[0] == "@" else np.array(value)
                array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
                made[token] = numpy_helper.from_array(array, f"c{len(made)}")
            return made[token].name

        body = CONSTANT.sub(constant, self.body)
        inputs, outputs = (text.replace("[batch", "[?") if unnamed else text for text in (self.inputs, self.outputs))
        opsets = f'"": {self.opset}, {DOMAINS}' + (f", {LOCAL_DOMAIN}" if self.functions else "")
        declared = f"<{self.declared}>" if self.declared else ""
        head = f"<ir_version: 10, opset_import: [{opsets}]>"
        model = parser.parse_model(f"{head} {name} ({inputs}) => ({outputs}) {declared} {{ {body} }} {self.functions}")
        model.graph.initializer.extend(made.values())
        model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in self.constants.items())
        if self.edit:
            self.edit(model)
        elif "com.microsoft" not in self.body:
            onnx.checker.check_model(model)
        return model


class Collection:
    """Models by name; `expected` says of all of them whether rows mix."""

    def __init__(self, expected):
        self.expected, self.models = expected, {}

    def add(self, name, *arguments, **options):
        assert name not in self.models, name
        self.models[name] = Model(*arguments, **options)

    def write(self, directory, verify=None):
        """Writes each model as `NAME.onnx`, and what is known of them as `index.json`. Returns errors by name."""
        directory.mkdir(parents=True, exist_ok=True)
        index, errors = {}, {}
        for number, (name, model) in enumerate(self.models.items()):
            path = directory / f"{name}.onnx"
            index[name] = {"family": model.family, "how": model.how, "expected": self.expected, "witness": model.witness}
            try:
                path.write_bytes(model.proto(name, number % 4 == 3).SerializeToString())
                if verify and not model.unverified:
                    index[name]["shown_by"] = verify(path, model)
            except Exception as error:
                errors[name] = str(error)
        (directory / "index.json").write_text(json.dumps(index, indent=1) + "\n")
        return errors

    def main(self, verify):
        """Writes the models into the folder that the command line names."""
        errors = self.write(pathlib.Path(sys.argv[1]), verify if "--verify" in sys.argv else None)
        for name, error in errors.items():
            print(f"{name}: {error[:400]}", file=sys.stderr)
        print(f"{len(self.models)} models, {len(errors)} errors")
        sys.exit(1 if errors else 0)


def show_influence(path, model):
    """Kinds of values that show the influence of rows on each other. Fails where none does."""
    import comparison

    running, shown = comparison.session(str(path)), []
    found = comparison.survey(running, batch_sizes=(2, 3, 4, 5, 8), runs=3, extents=model.extents)
    # The share of the other rows is a millionth in one model.
    limit = 1e-8 if "tiny" in path.stem else 1e-4
    shown += [mode for mode, seen in found.items() if isinstance(seen, float) and seen > limit]
    if model.witness:
        inputs, draws = running.get_inputs(), witness_draws(running, model.witness)
        shown += ["witness"] if any(comparison.deviation(running, inputs, values, count) > limit for count, values in draws) else []
    if not shown:
        raise ValueError(f"rows show no influence: {found}")
    return shown


def show_independence(path, model):
    """Deviations by kind of values. Fails where one is large."""
    import comparison

    found = comparison.survey(str(path), batch_sizes=(2, 3, 5, 8, 17), runs=2, extents=model.extents)
    if any(not isinstance(seen, float) or seen > 1e-4 for seen in found.values()):
        raise ValueError(f"rows influence each other: {found}")
    return found


def witness_draws(running, witness):
    """Numbers of rows and inputs with the rows and the value of a witness, or its very inputs."""
    import comparison

    if "inputs" in witness:
        inputs = {name: np.array(values, object) for name, values in witness["inputs"].items()}
        yield len(next(iter(inputs.values()))), inputs
        return
    count = witness.get("rows", 5)
    for seed in range(8):
        inputs = comparison.draw(running.get_inputs(), count, "normal", np.random.default_rng(seed))
        if "value" in witness:
            for array in inputs.values():
                if array.dtype != object:
                    array[count // 2, 0] = witness["value"]
        yield count, inputs
