"""The manifests of deploy/kubernetes: each file, and what kubectl renders of it, holds to the schemas of Kubernetes, and they fit together."""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import kubernetes_validate
import yaml

# Kinds of other projects, whose schemas are no part of Kubernetes; what of them is Kubernetes' own is checked as such.
FOREIGN = {"InferenceService", "ServiceMonitor", "ServingRuntime"}
# Read by other programs than a cluster.
NOT_MANIFESTS = {"kustomization.yaml", "prometheus-adapter.yaml"}


def read(text):
    return [document for document in yaml.safe_load_all(text) if document]


def pod_of(document):
    """The pod that a document describes, if any."""
    spec = document["spec"]
    if document["kind"] == "Deployment":
        return spec["template"]["spec"]
    return spec if document["kind"] == "ServingRuntime" else None


def validate(where, document):
    kind = document["kind"]
    if kind not in FOREIGN:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    elif kind == "ServingRuntime":
        spec = {key: document["spec"][key] for key in ("containers", "volumes")}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": document["metadata"], "spec": spec}
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    pod = pod_of(document)
    if pod:
        check_pod(where, pod)
    print(where, kind, document["metadata"]["name"])


def check_pod(where, pod):
    """What the pod security standard `restricted` asks, a root that is only read, and volumes that are there."""
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in pod.get("initContainers", []) + pod["containers"]:
        context = pod.get("securityContext", {}) | container["securityContext"]
        assert context["runAsNonRoot"] and context["runAsUser"] == 1000, where
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert context["capabilities"] == {"drop": ["ALL"]}, where
        assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"], where
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes, where
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}, where


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


def check_drain(where, container, grace):
    """The server may take the delay, the time-out for requests, and that again for a run or a load."""
    settings = {variable["name"]: variable["value"] for variable in container["env"]}
    delay, timeout = (seconds(settings[f"ONNXD_DRAIN_{name}"]) for name in ("DELAY", "TIMEOUT"))
    assert grace >= delay + 2 * timeout + 5, f"{where}: a grace period of {grace} s cuts the drain short"


def check_together(files):
    one = {(document["kind"], document["metadata"]["name"]): document for document in files}
    deployment = one["Deployment", "onnxd"]
    pod = pod_of(deployment)
    [container] = pod["containers"]
    ports = {port["name"] for port in container["ports"]}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels.items() >= deployment["spec"]["selector"]["matchLabels"].items()
    check_drain("Deployment", container, pod["terminationGracePeriodSeconds"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports, probe
    for name in ("onnxd", "onnxd-grpc"):
        spec = one["Service", name]["spec"]
        assert spec["selector"] == labels, name
        assert {port["targetPort"] for port in spec["ports"]} <= ports, name
    served = {port["name"] for port in one["Service", "onnxd"]["spec"]["ports"]}
    monitor = one["ServiceMonitor", "onnxd"]["spec"]
    assert monitor["selector"]["matchLabels"] == one["Service", "onnxd"]["metadata"]["labels"]
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= served
    assert one["PodDisruptionBudget", "onnxd"]["spec"]["selector"]["matchLabels"] == labels
    policy = one["NetworkPolicy", "onnxd"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports
    for volume in pod["volumes"]:
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        assert claim is None or ("PersistentVolumeClaim", claim) in one, claim
    runtime = one["ServingRuntime", "onnxd"]["spec"]["containers"][0]
    check_drain("ServingRuntime", runtime, one["InferenceService", "purchase"]["spec"]["predictor"]["terminationGracePeriodSeconds"])


def check_autoscaling(folder):
    """The autoscaler asks for what the adapter's rule gives."""
    scaler = yaml.safe_load((folder / "components/autoscaling/horizontalpodautoscaler.yaml").read_text())
    rules = yaml.safe_load((folder / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    asked = {metric["pods"]["metric"]["name"] for metric in scaler["spec"]["metrics"] if metric["type"] == "Pods"}
    assert asked == {rule["name"]["as"] for rule in rules}
    assert scaler["spec"]["scaleTargetRef"]["name"] == "onnxd"


def check_rendered(folder):
    if not shutil.which("kubectl"):
        print("SKIPPED rendering: there is no kubectl")
        return
    overlays = [folder / "base", *sorted((folder / "overlays").iterdir())]
    with tempfile.TemporaryDirectory() as scratch:
        # What kustomize reads other folders by is a path from its own.
        scratch = pathlib.Path(scratch).resolve()
        overlays += [over_base(folder.resolve(), component, scratch) for component in sorted((folder / "components").iterdir())]
        for overlay in overlays:
            rendered = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True, check=False)
            assert rendered.returncode == 0, f"{overlay}: {rendered.stderr}"
            for document in read(rendered.stdout):
                validate(f"rendered {overlay.name}", document)
            if overlay.name == "nvidia-gpus":
                check_gpus(read(rendered.stdout))


def over_base(folder, component, scratch):
    """A folder of the component's name that applies it to the base."""
    made = scratch / component.name
    made.mkdir()
    paths = {"resources": "base", "components": f"components/{component.name}"}
    listed = {key: [os.path.relpath(folder / path, made)] for key, path in paths.items()}
    (made / "kustomization.yaml").write_text(yaml.safe_dump({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"} | listed))
    return made


def check_gpus(documents):
    [container] = next(pod_of(document) for document in documents if document["kind"] == "Deployment")["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1" and container["image"].endswith("-cuda"), container


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=pathlib.Path)
folder = parser.parse_args().folder
files = []
for path in sorted(folder.rglob("*.yaml")):
    documents = read(path.read_text())
    assert documents, path
    if path.name not in NOT_MANIFESTS:
        for document in documents:
            validate(path.relative_to(folder), document)
        files += documents
check_together(files)
check_autoscaling(folder)
check_rendered(folder)
