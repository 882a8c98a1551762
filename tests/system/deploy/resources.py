"""The Kubernetes resources in the checkout."""

from collections.abc import Iterator
from typing import Any

import yaml

from tests.paths import DEPLOY

KUBERNETES = "1.37"
FOREIGN = {"keda.sh", "monitoring.coreos.com", "kustomize.config.k8s.io"}
"""API groups whose schemas are in no package."""


def resources(*kinds: str, under: str = "kubernetes") -> Iterator[dict[str, Any]]:
    for path in sorted((DEPLOY / under).rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if not kinds or document["kind"] in kinds:
                yield document


def pod_of(resource: dict[str, Any]) -> dict[str, Any]:
    spec = resource["spec"]
    template = (
        spec["jobTemplate"]["spec"]["template"] if "jobTemplate" in spec else spec["template"]
    )
    return dict(template)


def name_of(resource: dict[str, Any]) -> str:
    return f"{resource['kind']} {resource['metadata']['name']}"
