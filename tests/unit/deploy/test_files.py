"""The deployment's files agree with each other, the code, and the schemas of their readers."""

import re
import tomllib
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml
from compose_spec.models import ComposeSpecification, Service

from service.config import Config
from service.db.engine import SCAN_SECONDS
from service.db.grants import VERIFY, WEB, WORKER
from tests.paths import DEPLOY, ROOT
from tests.system.deploy.resources import FOREIGN, KUBERNETES, name_of, pod_of, resources

_SETTINGS = {f"CRM_{name.upper()}" for name in Config.model_fields}

compose: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
dockerfile = (DEPLOY / "Dockerfile").read_text()

PODS = list(resources("Deployment", "Job", "CronJob", under="kubernetes/base"))


def test_resources_fit_kubernetes_own_schemas() -> None:
    checked = 0
    for resource in resources():
        if resource["apiVersion"].split("/")[0] not in FOREIGN and resource.get("metadata"):
            if name_of(resource) == "Deployment crm-worker" and "template" not in resource["spec"]:
                continue  # a patch is not a whole resource
            kubernetes_validate.validate(resource, KUBERNETES, strict=True)
            checked += 1
    assert checked >= 12


def test_the_schemas_refuse_a_misspelt_field() -> None:
    (broken,) = resources("HorizontalPodAutoscaler")
    broken["spec"]["maxReplica"] = 8
    with pytest.raises(kubernetes_validate.ValidationError, match="maxReplica"):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


def test_each_kustomization_names_all_files_of_its_folder_and_no_others() -> None:
    for path in (DEPLOY / "kubernetes").rglob("kustomization.yaml"):
        listed = yaml.safe_load(path.read_text())
        named = {*listed["resources"], *listed.get("patchesStrategicMerge", ())}
        there = {it.name for it in path.parent.iterdir()} - {path.name}
        assert {it for it in named if not it.startswith("..")} == there


@pytest.mark.parametrize("resource", PODS, ids=name_of)
def test_a_pod_has_no_right_that_it_does_not_need(resource: dict[str, Any]) -> None:
    pod = pod_of(resource)["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert (
        pod["securityContext"].items()
        >= {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }.items()
    )
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"].keys() == {"requests", "limits"}
    assert f"USER {pod['securityContext']['runAsUser']}:" in dockerfile


def test_deployments_have_probes_budgets_and_time_to_stop() -> None:
    budgets = [it["spec"]["selector"]["matchLabels"] for it in resources("PodDisruptionBudget")]
    for resource in resources("Deployment", under="kubernetes/base"):
        template = pod_of(resource)
        (container,) = template["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe, path in (
            ("startupProbe", "/livez"),
            ("livenessProbe", "/livez"),
            ("readinessProbe", "/readyz"),
        ):
            get = container[probe]["httpGet"]
            assert get["path"] == path
            assert "EXPOSE 8080 9090\n" in dockerfile
            assert ports[get["port"]] in {8080, 9090}
        labels = template["metadata"]["labels"]
        assert resource["spec"]["selector"]["matchLabels"] == labels
        assert labels in budgets
        drain = Config.model_fields["drain_seconds"].default
        assert template["spec"]["terminationGracePeriodSeconds"] >= drain + 10 or (
            labels["app.kubernetes.io/component"] == "web"
        )


def test_selectors_and_targets_name_existing_resources() -> None:
    pods = [pod_of(resource)["metadata"]["labels"] for resource in PODS]
    deployments = {it["metadata"]["name"] for it in PODS if it["kind"] == "Deployment"}
    for resource in resources("Service"):
        assert resource["spec"]["selector"] in pods
    for resource in resources("NetworkPolicy", "PodMonitor"):
        spec = resource["spec"]
        selected = (spec.get("podSelector") or spec["selector"])["matchLabels"]
        assert any(selected.items() <= labels.items() for labels in pods)
    for resource in resources("HorizontalPodAutoscaler", "ScaledObject"):
        assert resource["spec"]["scaleTargetRef"]["name"] in deployments


def test_every_setting_in_the_files_exists() -> None:
    texts = [path.read_text() for path in DEPLOY.rglob("*") if path.suffix in {".yaml", ".example"}]
    named = {name for text in (*texts, dockerfile) for name in re.findall(r"CRM_[A-Z_]+", text)}
    assert named <= _SETTINGS
    assert {"CRM_DATABASE_URL", "CRM_REDIS_URL", "CRM_WORKER_PORT"} <= named


def test_compose_is_a_compose_file() -> None:
    ComposeSpecification(**compose)
    known = {field.alias or name for name, field in Service.model_fields.items()}
    for service in compose["services"].values():
        assert service.keys() <= known


def test_compose_starts_parts_in_order_and_checks_their_health() -> None:
    services = compose["services"]
    for part in ("worker", "web"):
        assert services[part]["depends_on"] == {
            "postgres": {"condition": "service_healthy"},
            "redis": {"condition": "service_healthy"},
            "migrate": {"condition": "service_completed_successfully"},
        }
        assert services[part]["read_only"] is True
        assert services[part]["cap_drop"] == ["ALL"]
    for part in services.keys() - {"migrate", "verify"}:
        assert services[part]["healthcheck"]["test"]
        assert services[part]["restart"] == "unless-stopped"
    for words in ("--appendonly yes", "--maxmemory-policy noeviction"):
        assert words in services["redis"]["command"][-1]


def test_the_runbook_has_the_rules_of_each_user_of_redis() -> None:
    users = (DEPLOY / "redis/users.acl").read_text()
    runbook = (DEPLOY / "README.md").read_text()
    described = re.findall(r"^user (crm|publisher|subscriber) on #<\w+> (.*)$", users, re.MULTILINE)
    assert len(described) == 3
    for name, rules in described:
        shown = re.search(rf"^ACL SETUSER {name} on >PASSWORD (.*)$", runbook, re.MULTILINE)
        assert shown, name
        assert shown[1].replace("'", "") == rules


def test_kubernetes_and_compose_connect_as_the_service() -> None:
    secret = (DEPLOY / "kubernetes/secret.example.yaml").read_text()
    assert "//crm:" in secret
    assert "/users/start.sh valkey-server" in compose["services"]["redis"]["command"][-1]


def _example(name: str) -> dict[str, str]:
    lines = (DEPLOY / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_example_environments_name_what_compose_uses() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    assert set(re.findall(r"(?<!\$)\$\{([A-Z_]+):\?", text)) == _example("env.example").keys()
    used = set(re.findall(r"\$\$([A-Z_]+)", text))
    assert used <= _example("crm.env.example").keys()
    given = _example("crm.env.example")
    assert f"//crm:{given['REDIS_SERVICE_PASSWORD']}@" in given["CRM_REDIS_URL"]
    users = (DEPLOY / "redis/users.acl").read_text()
    assert set(re.findall(r"<(REDIS_\w+)>", users)) <= given.keys()


ROLES = {"migrate": "crm", "worker": WORKER, "web": WEB, "verify": VERIFY}


@pytest.mark.parametrize("part", ROLES)
def test_each_part_gets_the_password_of_its_own_role_only(part: str) -> None:
    url = compose["services"][part]["environment"]["CRM_DATABASE_URL"]
    assert url.startswith(f"postgresql://{ROLES[part]}:${{")
    passwords = re.findall(r"\$\{([A-Z_]+)", yaml.safe_dump(compose["services"][part]))
    assert len(passwords) == 1
    assert "PASSWORD" not in "".join(
        name for name in _example("crm.env.example") if "REDIS" not in name
    )
    (pod,) = (it for it in PODS if it["metadata"]["name"] == f"crm-{part}")
    (container,) = pod_of(pod)["spec"]["containers"]
    secrets = [it["secretRef"]["name"] for it in container["envFrom"] if "secretRef" in it]
    assert secrets == ["crm", "crm-owner" if part == "migrate" else f"crm-{part}"]
    (secret,) = (it for it in resources("Secret") if it["metadata"]["name"] == secrets[-1])
    assert urlsplit(secret["stringData"]["CRM_DATABASE_URL"]).username == ROLES[part]


def test_only_the_proxy_is_believed() -> None:
    networks = compose["networks"]["default"]["ipam"]["config"]
    trusted = compose["services"]["web"]["environment"]["FORWARDED_ALLOW_IPS"]
    assert trusted == networks[0]["gateway"]
    (config,) = (
        literals["literals"]
        for it in resources("Kustomization", under="kubernetes/base")
        for literals in it["configMapGenerator"]
    )
    (value,) = (
        literal.partition("=")[2] for literal in config if literal.startswith("FORWARDED_ALLOW_IPS")
    )
    for network in value.split(","):
        assert ip_network(network).is_private or network == "100.64.0.0/10"
    (policy,) = (it for it in resources("NetworkPolicy") if it["metadata"]["name"] == "crm-web")
    assert all(rule["from"] for rule in policy["spec"]["ingress"])


def test_every_job_ends() -> None:
    for resource in PODS:
        if resource["kind"] != "Deployment":
            job = resource["spec"].get("jobTemplate", resource)["spec"]
            assert job["activeDeadlineSeconds"] > SCAN_SECONDS


def test_images_are_pinned_to_a_release() -> None:
    for service in compose["services"].values():
        if "build" not in service:
            assert re.search(r":\d+\.\d+$", service["image"])


def test_the_image_installs_the_pins_and_checks_their_hashes() -> None:
    assert dockerfile.count("--require-hashes") == 2
    for lock in ("requirements.txt", "deploy/requirements-build.txt"):
        locked = re.sub(r"^#.*\n", "", (ROOT / lock).read_text(), flags=re.MULTILINE)
        pins = re.split(r"^(?=\S)", locked, flags=re.MULTILINE)
        for pin in pins:
            assert not pin.strip() or re.match(
                r"[a-z0-9._-]+==\S+( ; [^\n]+)? \\\n +--hash=sha256:", pin
            ), pin
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    names = {re.split(r"[<>=]", it)[0] for it in build}
    pinned = {pin.split("==")[0] for pin in pins if pin.strip()}
    assert pinned == names  # pins of the build requirements
