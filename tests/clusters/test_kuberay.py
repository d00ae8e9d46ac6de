"""clusters/kuberay.yaml against the part of KubeRay's resource definitions that it uses."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = list(yaml.safe_load_all((ROOT / "clusters" / "kuberay.yaml").read_text()))


def closed(required: str, **properties: Any) -> dict[str, Any]:
    """A mapping with these keys and no other."""
    return {"type": "object", "properties": properties, "required": required.split(),
            "additionalProperties": False}  # fmt: skip


def listed(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


# ray.io/v1 of KubeRay 1.5 and the pods of Kubernetes: the fields used here. Kubernetes takes
# quantities and parameters of `ray start` as strings only.
TEXT, NUMBER, FLAG = {"type": "string", "minLength": 1}, {"type": "integer"}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
CONTAINER = closed(
    "name image resources",
    name=TEXT,
    image=TEXT,
    ports=listed(closed("containerPort", name={"type": "string", "maxLength": 15},
                        containerPort=NUMBER)),
    env=listed(closed("name value", name=TEXT, value=TEXT)),
    resources=closed("requests limits", requests=TEXTS, limits=TEXTS),
)  # fmt: skip
TOLERATION = closed(
    "key operator",
    key=TEXT,
    operator={"enum": ["Equal", "Exists"]},
    value=TEXT,
    effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
)
TEMPLATE = closed("spec", spec=closed(
    "containers", containers=listed(CONTAINER), serviceAccountName=TEXT, nodeSelector=TEXTS,
    tolerations=listed(TOLERATION)))  # fmt: skip
CLUSTER = closed(
    "rayVersion headGroupSpec",
    rayVersion=TEXT,
    authOptions=closed("mode", mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=closed("", idleTimeoutSeconds=NUMBER),
    headGroupSpec=closed("rayStartParams template", rayStartParams=TEXTS, template=TEMPLATE),
    workerGroupSpecs=listed(
        closed("groupName minReplicas maxReplicas rayStartParams template", groupName=TEXT,
               replicas=NUMBER, minReplicas=NUMBER, maxReplicas=NUMBER, rayStartParams=TEXTS,
               template=TEMPLATE)
    ),
)  # fmt: skip
JOB = closed(
    "entrypoint rayClusterSpec",
    entrypoint=TEXT,
    backoffLimit=NUMBER,
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=NUMBER,
    rayClusterSpec=CLUSTER,
)


def document(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    meta = closed("name", name=TEXT, labels=TEXTS)
    return closed("apiVersion kind metadata spec", apiVersion={"const": "ray.io/v1"},
                  kind={"const": kind}, metadata=meta, spec=spec)  # fmt: skip


def check(documents: list[Any]) -> None:
    cluster, job = documents
    jsonschema.validate(cluster, document("RayCluster", CLUSTER))
    jsonschema.validate(job, document("RayJob", JOB))


def test_both_documents_fit_the_definitions() -> None:
    check(DOCUMENTS)


@pytest.mark.parametrize("break_it", [
    lambda head: head.pop("rayStartParams"),
    lambda head: head["rayStartParams"].update({"num-cpus": 0}),
    lambda head: head["template"]["spec"]["containers"][0].pop("image"),
    lambda head: head["template"]["spec"].update(nodeSelctor={"a": "b"}),
])  # fmt: skip
def test_a_broken_document_does_not(break_it) -> None:
    broken = copy.deepcopy(DOCUMENTS)
    break_it(broken[0]["spec"]["headGroupSpec"])
    with pytest.raises(jsonschema.ValidationError):
        check(broken)


def test_the_job_brings_the_same_cluster_and_takes_it_away() -> None:
    cluster, job = DOCUMENTS
    assert job["spec"]["rayClusterSpec"] == cluster["spec"]
    assert job["spec"]["shutdownAfterJobFinishes"]
    # each is chosen by its label: `kubectl apply -l`
    assert [one["metadata"]["labels"]["raydd"] for one in DOCUMENTS] == ["cluster", "job"]


def test_the_entrypoint_composes_and_writes_to_a_store() -> None:
    from raydd.run import main

    words = DOCUMENTS[1]["spec"]["entrypoint"].split()
    assert words[:3] == ["python", "-m", "raydd.run"]
    assert main(["--cfg", "job", *words[3:]]) == 0
    assert any(word.startswith("storage=") and "://" in word for word in words)


def test_the_head_is_private_and_asks_for_a_token() -> None:
    spec = DOCUMENTS[0]["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    head = spec["headGroupSpec"]
    assert head.keys() == {"rayStartParams", "template"}  # no ingress, no serviceType
    (container,) = head["template"]["spec"]["containers"]
    assert {port["containerPort"] for port in container["ports"]} == {6379, 8265}
    assert head["rayStartParams"]["num-cpus"] == "0"
    names = {name["name"] for pods in (head, *spec["workerGroupSpecs"])
             for one in pods["template"]["spec"]["containers"]
             for name in one["env"]}  # fmt: skip
    assert not {name for name in names if "TOKEN" in name or "SECRET" in name}


def test_workers_ask_for_one_gpu_and_for_no_more_than_they_get() -> None:
    (group,) = DOCUMENTS[0]["spec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert 0 < group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_image_holds_what_an_installation_needs() -> None:
    lines = (ROOT / "clusters" / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[2:-1]]
    assert {"raydd", "configs", "pyproject.toml"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    version = DOCUMENTS[0]["spec"]["rayVersion"]
    assert next(line for line in lines if line.startswith("FROM")).split(":")[1].startswith(version)
