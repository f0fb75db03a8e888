"""Runs hostile requests of `operator_cases` in ONNX Runtime itself, in a process of its own for each operator: what ends that
process would end a server that runs the model in process.

The child process writes the number of each case before it runs it, so that the case which ended it is known; the next child goes
on behind it."""

import collections
import json
import os
import pathlib
import pickle
import resource
import signal
import subprocess
import sys

import operator_cases as cases

REQUESTS_PER_MODEL = 12
SEARCHES = 250
RUN_TIMEOUT_SECONDS = 4
MEMORY_LIMIT = 3 << 30


def case(key, number, seeds, kernels, schema, seed):
    """The model and the inputs of one case."""
    chance = cases.chance_of(seed, *key, number // REQUESTS_PER_MODEL)
    chosen = chance.choice(seeds)
    if chance.random() < 0.3:
        chosen = cases.with_other_type(chosen, kernels, schema, chance) or chosen
    model = chosen.model
    if chance.random() < 0.15:
        model = cases.with_odd_attribute(model, chance)
    ranked = chance.random() < 0.5
    model = cases.with_shapes(model, chosen.inputs, ranked)
    request = cases.chance_of(seed, *key, number, "request")
    # The first request of a model is the seed itself, as a probe would run.
    inputs = chosen.inputs if number % REQUESTS_PER_MODEL == 0 else cases.mutated(chosen.inputs, request, ranked)
    return model, inputs


def searched(key, number, kernels, schema, seed):
    """The case of a search for a seed."""
    return cases.seed_by_schema(key, kernels, schema, cases.chance_of(seed, *key, "search", number))


def child(plan):
    """Runs the cases of a plan; writes a line of JSON for each."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    key, seed = tuple(plan["key"]), plan["seed"]
    kernels, schema = cases.operators()[key], cases.schemas()[key]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False

    def tell(**what):
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    def load(model):
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(session, inputs):
        given = {node.name for node in session.get_inputs()}
        return session.run(None, {name: array for name, array in inputs.items() if name in given})

    if plan["search"]:
        found = 0
        for number in range(plan["start"], SEARCHES):
            made = searched(key, number, kernels, schema, seed)
            if made is None or found >= 6:
                continue
            tell(begin=number)
            signal.alarm(RUN_TIMEOUT_SECONDS)
            try:
                run(load(made.model), made.inputs)
            except Exception as error:
                tell(number=number, error=str(error)[:300])
            else:
                found += 1
                tell(number=number, ok=True)
            signal.alarm(0)
        return
    seeds = plan_seeds(plan, key, kernels, schema)
    model, session = -1, None
    for number in range(plan["start"], plan["count"]):
        made, inputs = case(key, number, seeds, kernels, schema, seed)
        tell(begin=number)
        signal.alarm(RUN_TIMEOUT_SECONDS)
        try:
            if number // REQUESTS_PER_MODEL != model:
                model, session = number // REQUESTS_PER_MODEL, None
                session = load(made)
            if session is None:
                tell(number=number, error="not loaded", load=True)
            else:
                run(session, inputs)
                tell(number=number, ok=True)
        except Exception as error:
            tell(number=number, error=str(error)[:300], load=session is None)
        signal.alarm(0)


def plan_seeds(plan, key, kernels, schema):
    if plan["found"]:
        return [searched(key, number, kernels, schema, plan["seed"]) for number in plan["found"]]
    return cases.seeds_by_shape(key) or cases.seeds_of_onnx([key[1]])[key]


def drive(key, seed, count, search=False, found=()):
    """Runs an operator's cases. Gives what ended a process: (number, signal); and how often each kind of answer came."""
    deaths, answers, ok = [], collections.Counter(), []
    start, last = 0, SEARCHES if search else count
    while start < last:
        plan = {"key": key, "seed": seed, "start": start, "count": count, "search": search, "found": list(found)}
        process = subprocess.Popen([sys.executable, __file__, json.dumps(plan)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        begun = None
        for line in process.stdout:
            told = json.loads(line)
            if "begin" in told:
                begun = told["begin"]
                continue
            begun = None
            start = told["number"] + 1
            if told.get("ok"):
                answers["ok"] += 1
                ok.append(told["number"])
            else:
                answers["load: " * bool(told.get("load")) + error_kind(told["error"])] += 1
        status = process.wait()
        if begun is None:
            if status:
                answers[f"child failed {status}"] += 1
            break
        deaths.append((begun, signal.Signals(-status).name if status < 0 else f"exit {status}"))
        start = begun + 1
        if len(deaths) > 25:
            break
    return deaths, answers, ok


def error_kind(message):
    parts = message.split(" : ")
    return parts[2] if message.startswith("[ONNXRuntimeError]") and len(parts) > 2 else message[:40]


if __name__ == "__main__":
    child(json.loads(sys.argv[1]))
