"""Traffic splitting as tritonclient sees it, over both protocols.

An alias in place of a version, and routing keys as a parameter, as `onnxd-routing-key`, and under a configured name.
"""

import numpy as np

from common import PROTOCOLS, Answer, arguments, infer_inputs

INPUTS = {"x": np.zeros((1, 2), dtype=np.float32)}


def version_of(module, client, **options):
    """The version that answers, which adds its number."""
    answer = Answer.of(client.infer("add", infer_inputs(module, INPUTS), **options))
    assert answer.outputs["y"][0][0] == float(answer.version), answer
    return answer.version


def main():
    addresses = arguments("versions")
    versions = addresses.versions.split(",")
    assert set(versions) == {"2", "3"}, versions
    for protocol, module in PROTOCOLS.items():
        with module.InferenceServerClient(getattr(addresses, protocol)) as client:
            assert client.is_model_ready("add", "canary")
            assert client.get_model_metadata("add", "canary")
            assert version_of(module, client, model_version="canary") == "3"
            for number, expected in enumerate(versions):
                key = f"user-{number}"
                for given in (
                    {"parameters": {"routing_key": key}},
                    {"headers": {"onnxd-routing-key": key}},
                    {"headers": {"x-user-id": key}},
                    {"headers": {"x-user-id": "another", "onnxd-routing-key": key}},
                ):
                    assert version_of(module, client, **given) == expected, (protocol, given, expected)


main()
