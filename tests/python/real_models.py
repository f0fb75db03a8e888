"""Models that others trained answer as they do in onnxruntime, one after the other and all at once.

One after the other: 1, 2 and 7 rows, in whichever form requests and answers travel, bit for bit. None of these models'
answers depend on the number of threads, so onnxruntime's default session options serve as the reference.

At once: 32 clients, half of them over gRPC and half over HTTP, with 1 to 7 rows each (and MiniLM's sentences of
different lengths) ask `<model>-joined`, the same model configured to wait for others. Each must get its own answers,
within 1e-5 + 1e-3 of the value, since the last bits of a matrix product depend on the rows around it.

Prints the number of requests to `<model>-joined`.
"""

import asyncio

import numpy as np
import onnxruntime
import tritonclient.grpc.aio
import tritonclient.http.aio

from common import Answer, Ways, agree, arguments, assert_same_bits, infer_inputs

CLIENTS = 32
ROWS = [1, 2, 7]


def files(rows, random):
    """Magika: beginnings and ends of files that hold bytes of some range only, which sets their answers apart."""
    array = np.full((rows, 2048), 256, dtype=np.int32)
    for row in array:
        low = random.integers(200)
        length = random.integers(1, 1025)
        content = random.integers(low, random.integers(low + 1, 257), length)
        row[:length], row[-length:] = content, content
    return {"bytes": array}


def sentences(rows, random):
    """MiniLM: sentences of one length, the longest, padded to it; which length is up to chance."""
    length = int(random.choice([5, 16, 33]))
    ids = random.integers(1000, 29000, (rows, length))
    ids[:, 0], ids[:, -1] = 101, 102
    mask = np.ones_like(ids)
    for row in range(1, rows):
        mask[row, random.integers(2, length + 1) :] = 0
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def faces(rows, random):
    """MTCNN's o-net: pictures, whose pixels are between -1 and 1."""
    return {"input_3": random.uniform(-1, 1, (rows, 48, 48, 3)).astype(np.float32)}


MAKERS = {"magika": files, "minilm": sentences, "onet": faces}


def check_bits(ways, model, reference, outputs, random):
    for rows in ROWS:
        inputs = MAKERS[model](rows, random)
        expected = dict(zip(outputs, reference.run(outputs, inputs), strict=True))
        for way in ways.all():
            got = way(model, "", inputs, outputs, way.__name__)
            assert (got.model, got.version, got.id) == (model, "1", way.__name__), got
            assert_same_bits(got.outputs, expected, f"{model}, {rows} rows, {way.__name__}")


async def ask_for_rounds(module, client, model, inputs, expected, number, rounds):
    for turn in range(rounds):
        request_id = f"client {number}, turn {turn}"
        result = await client.infer(model, infer_inputs(module, inputs), request_id=request_id)
        answer = Answer.of(result)
        assert (answer.model, answer.id) == (model, request_id), answer
        assert list(answer.outputs) == list(expected), answer.outputs
        assert agree(answer.outputs, expected), f"{model}, {request_id}: {answer.outputs}, expected {expected}"


async def check_concurrent(given, model, reference, outputs, random):
    protocols = (tritonclient.grpc.aio, given.grpc), (tritonclient.http.aio, given.http)
    asked, expected = [], []
    while len(asked) < CLIENTS:
        inputs = MAKERS[model](1 + len(asked) % 7, random)
        alone = dict(zip(outputs, reference.run(outputs, inputs), strict=True))
        # A client whose answer could pass for another's would show nothing.
        if not any(agree(alone, other) for other in expected):
            asked.append(inputs)
            expected.append(alone)
    modules = [protocols[number % 2] for number in range(CLIENTS)]
    clients = [module.InferenceServerClient(address) for module, address in modules]
    await asyncio.gather(
        *(
            ask_for_rounds(module, client, f"{model}-joined", inputs, alone, number, int(given.rounds))
            for number, ((module, _), client, inputs, alone) in enumerate(zip(modules, clients, asked, expected))
        )
    )
    for client in clients:
        await client.close()
    print(CLIENTS * int(given.rounds))


def main():
    given = arguments("model", "rounds")
    model = given.model
    file = f"{given.repository}/{model}/1/model.onnx"
    reference = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in reference.get_outputs()]
    random = np.random.default_rng(42)
    check_bits(Ways(given), model, reference, outputs, random)
    asyncio.run(check_concurrent(given, model, reference, outputs, random))


main()
