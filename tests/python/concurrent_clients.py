"""64 clients that ask at once each get the answer to their own request, over gRPC and over HTTP.

Every client has a connection of its own and sends one row, which no other client sends, several times. Its answers must
be those that it gets alone: exactly for `simple`, whose integers leave no choice, else within 1e-5 + 1e-3 of the value,
since the last bits of a matrix product depend on the rows around it.

Each model is asked twice: as it is, where requests are batched as they happen to meet, and as `<model>-full`, which is
the same model configured to wait until a batch of 64 rows is full.
"""

import asyncio

import numpy as np
import tritonclient.grpc.aio
import tritonclient.http.aio

from common import Answer, agree, arguments, infer_inputs, make_inputs

CLIENTS = 64
ROUNDS = 5
MODELS = [("simple", "1"), ("purchase", "2"), ("shopper", "1"), ("mlp", "1")]


async def ask(module, client, model, version, inputs, request_id):
    inputs = infer_inputs(module, inputs)
    answer = Answer.of(await client.infer(model, inputs, model_version=version, request_id=request_id))
    assert (answer.model, answer.version, answer.id) == (model, version, request_id), answer
    return answer.outputs


async def ask_for_rounds(module, client, model, version, inputs, alone, number):
    for turn in range(ROUNDS):
        got = await ask(module, client, model, version, inputs, f"client {number}, turn {turn}")
        assert agree(got, alone, exactly=model.startswith("simple")), f"{model}, client {number}: {got}, alone {alone}"


async def check_model(module, clients, model, version):
    random = np.random.default_rng(64)
    inputs, alone = [], []
    while len(alone) < CLIENTS:
        own = make_inputs(model, 1, random)
        lone = await ask(module, clients[len(alone)], model, version, own, "alone")
        # A client whose answer could pass for another's would show nothing.
        if not any(agree(lone, other, exactly=False) for other in alone):
            inputs.append(own)
            alone.append(lone)
    for name in (model, f"{model}-full"):
        await asyncio.gather(
            *(
                ask_for_rounds(module, client, name, version, own, lone, number)
                for number, (client, own, lone) in enumerate(zip(clients, inputs, alone))
            )
        )


async def main():
    given = arguments()
    # Channels to the same address share a connection unless told not to.
    own_connection = {"channel_args": [("grpc.use_local_subchannel_pool", 1)]}
    for module, address, options in (
        (tritonclient.grpc.aio, given.grpc, own_connection),
        (tritonclient.http.aio, given.http, {}),
    ):
        clients = [module.InferenceServerClient(address, **options) for _ in range(CLIENTS)]
        for model, version in MODELS:
            await check_model(module, clients, model, version)
        for client in clients:
            await client.close()


asyncio.run(main())
