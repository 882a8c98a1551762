"""Tools accept the deployment's files: rendered resources, a linted Dockerfile, a wheel.

Not checked, because there is no Docker engine and no cluster at hand: that the images build from
their registries and start, and that a cluster's admission policies accept the resources.
"""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.paths import DEPLOY, ROOT
from tests.system.deploy.resources import FOREIGN, KUBERNETES, name_of, pod_of


def run(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def let_through(context: Path) -> None:
    """Copy the files that .dockerignore lets through."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    kept_out = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    for line in lines:
        if line.startswith("!"):
            source, target = ROOT / line[1:], context / line[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns(*kept_out))
            else:
                shutil.copy(source, target)


def tool(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.mark.parametrize("folder", ["base", "autoscaling", "monitoring"])
def test_rendered_resources_fit_the_schemas(folder: str) -> None:
    rendered = run(tool("kubectl"), "kustomize", DEPLOY / "kubernetes" / folder)
    documents = list(yaml.safe_load_all(rendered))
    assert documents
    for document in documents:
        if document["apiVersion"].split("/")[0] not in FOREIGN:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    config = {it["metadata"]["name"] for it in documents if it["kind"] == "ConfigMap"}
    for document in documents:
        if document["kind"] in {"Deployment", "Job", "CronJob"}:
            (container,) = pod_of(document)["spec"]["containers"]
            assert container["envFrom"][0]["configMapRef"]["name"] in config
            assert container["image"].endswith(":1.0.0")
    if folder == "autoscaling":
        (worker,) = (it for it in documents if name_of(it) == "Deployment crm-worker")
        assert "replicas" not in worker["spec"]


def test_the_dockerfile_passes_the_linter() -> None:
    run(tool("hadolint"), DEPLOY / "Dockerfile")


def test_the_wheel_of_the_image_holds_everything_that_runs(tmp_path: Path) -> None:
    """Build it from the files that .dockerignore lets through, and run code from it alone."""
    context = tmp_path / "context"
    let_through(context)
    step = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir")
    assert " ".join(step) in (DEPLOY / "Dockerfile").read_text()
    run(sys.executable, "-m", "pip", *step, tmp_path, "--quiet", "--no-index", context)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for package in ("service", "consumers", "migrations"):
        for path in (context / package).rglob("*"):
            if path.is_file():
                assert str(path.relative_to(context)) in held
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import service;"
        " from service.db.migrate import head; from service.http.app import create_app;"
        " print(service.__file__, head())"
    )
    assert str(tmp_path) in run(sys.executable, "-I", "-c", code)
