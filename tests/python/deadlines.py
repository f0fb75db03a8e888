"""The deadlines that clients set are kept.

There are two: the parameter `timeout` (microseconds, both protocols), and gRPC's own, which tritonclient calls
client_timeout (seconds). The model `slow` runs for as many rounds as it is told. It is told so many here that it never
ends, so that whatever comes back came because of the deadline, however fast the machine. The test ends the server.
"""

import numpy as np
from tritonclient.utils import InferenceServerException

from common import PROTOCOLS, Answer, arguments, assert_same_bits, infer_inputs, make_inputs, simple_outputs

EXCEEDED = {"grpc": "StatusCode.DEADLINE_EXCEEDED", "http": "504"}
FOR_EVER = {"iterations": np.array([[2**62]], dtype=np.int64)}

# What a second is to a client is a minute to a loaded machine.
AMPLE_SECONDS = 200
AMPLE_MICROSECONDS = AMPLE_SECONDS * 1_000_000


def check_kept_in_time(protocol, client):
    """A deadline that is far away, and a `timeout` of 0, which stands for none, change nothing."""
    inputs = make_inputs("simple", 1, np.random.default_rng(9))
    options = [{}, {"timeout": 0}, {"timeout": AMPLE_MICROSECONDS}]
    if protocol == "grpc":
        options += [{"client_timeout": AMPLE_SECONDS}, {"client_timeout": AMPLE_SECONDS, "timeout": AMPLE_MICROSECONDS}]
    for option in options:
        result = client.infer("simple", infer_inputs(PROTOCOLS[protocol], inputs), **option)
        assert_same_bits(Answer.of(result).outputs, simple_outputs(inputs), f"{protocol} {option}")


def check_exceeded(protocol, client):
    """The first request is given up while it runs, those behind it while they wait."""
    options = [{"timeout": 50_000}, {"timeout": 50_000}, {"timeout": 1}]
    if protocol == "grpc":
        options += [{"client_timeout": 0.05}, {"client_timeout": AMPLE_SECONDS, "timeout": 50_000}]
    for option in options:
        try:
            client.infer("slow", infer_inputs(PROTOCOLS[protocol], FOR_EVER), **option)
        except InferenceServerException as error:
            assert error.status() == EXCEEDED[protocol], f"{protocol} {option}: {error}"
            # With client_timeout the client may give up first, in words of its own.
            assert "timeout" not in option or "'slow'" in error.message(), f"{protocol} {option}: {error}"
        else:
            raise AssertionError(f"{protocol} {option}: no error")
    assert client.is_server_live() and client.is_server_ready()


def main():
    given = arguments()
    clients = {
        "grpc": PROTOCOLS["grpc"].InferenceServerClient(given.grpc),
        "http": PROTOCOLS["http"].InferenceServerClient(given.http),
    }
    # All of these first: a run that never ends may hold the only CPU.
    for protocol, client in clients.items():
        check_kept_in_time(protocol, client)
    for protocol, client in clients.items():
        check_exceeded(protocol, client)


main()
