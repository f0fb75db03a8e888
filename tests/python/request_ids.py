"""Headers of tritonclient's users reach the server, over both protocols, and change no answer."""

import numpy as np

from common import PROTOCOLS, Answer, arguments, assert_same_bits, infer_inputs, make_inputs, simple_outputs


def main():
    given = arguments()
    addresses = {"grpc": given.grpc, "http": given.http}
    inputs = make_inputs("simple", 2, np.random.default_rng(8))
    for protocol, module in PROTOCOLS.items():
        headers = {
            "x-request-id": f"of-{protocol}",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "onnxd-server-timing": "1",
        }
        with module.InferenceServerClient(addresses[protocol]) as client:
            asked = infer_inputs(module, inputs)
            answer = Answer.of(client.infer("simple", asked, request_id=f"message-{protocol}", headers=headers))
            assert answer.id == f"message-{protocol}", answer
            assert_same_bits(answer.outputs, simple_outputs(inputs), protocol)


main()
