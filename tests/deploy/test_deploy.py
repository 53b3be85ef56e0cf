"""The deployment files against the code: names, commands, pins and CPUs. Nothing is built or applied."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from raysal.config import load_config

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
CLUSTER = yaml.safe_load((DEPLOY / "cluster.yaml").read_text(encoding="utf-8"))
JOB, POLICY = yaml.safe_load_all((DEPLOY / "rayjob.yaml").read_text(encoding="utf-8"))
SPEC = JOB["spec"]["rayClusterSpec"]
HEAD, (WORKERS,) = SPEC["headGroupSpec"], SPEC["workerGroupSpecs"]
PODS = {"head": HEAD["template"], "workers": WORKERS["template"]}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)


def raysal_commands():
    """Every `raysal ...` a user is told to run, or that a manifest runs."""
    readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
    return [JOB["spec"]["entrypoint"], *re.findall(r"raysal run [^'`\n]+", readme)]


def parsed(command):
    """The parameters of a raysal command as its own parser understands them."""
    import typer.main

    from raysal.cli import app

    name, *words = shlex.split(command)[1:]
    subcommand = typer.main.get_command(app).commands[name]
    return name, subcommand.make_context(name, list(words)).params


def config_of(path):
    """A config inside the image or relative to the repository."""
    return load_config(ROOT / str(path).removeprefix("/opt/raysal/"))


def start_options(command):
    return dict(re.findall(r"--([a-z-]+)=(\S+)", command))


def test_kinds():
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    assert (POLICY["apiVersion"], POLICY["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    assert JOB["spec"]["shutdownAfterJobFinishes"] is True
    assert JOB["spec"]["backoffLimit"] > 0
    assert CLUSTER["provider"]["type"] == "local"
    assert len(CLUSTER["provider"]["worker_ips"]) == CLUSTER["min_workers"] == CLUSTER["max_workers"]


def test_one_image_of_this_version_everywhere():
    image = f"raysal:{PROJECT['version']}"
    assert {pod["spec"]["containers"][0]["image"] for pod in PODS.values()} == {image}
    assert CLUSTER["docker"]["image"] == image
    for text in (DOCKERFILE, (DEPLOY / "README.md").read_text(encoding="utf-8")):
        built = re.findall(r"docker build .*?-t (\S+)", text)
        assert built
        assert set(built) == {image}


@pytest.mark.parametrize("command", raysal_commands())
def test_commands_are_what_the_cli_takes(command):
    name, options = parsed(command)
    assert name == "run"
    assert options["out"] == Path("/shared/run")
    config = config_of(options["config"])
    assert config.fleet.backend == "ray"
    assert config.fleet.address == "auto"
    assert config.pool.is_relative_to("/shared")


def test_the_image_holds_what_the_commands_name():
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE)
    copied = [name for names in copied for name in names.split()]
    workdir = re.search(r"^WORKDIR (\S+)", DOCKERFILE, re.MULTILINE).group(1)
    assert parsed(JOB["spec"]["entrypoint"])[1]["config"].is_relative_to(f"{workdir}/configs")
    assert "configs" in copied
    assert all((ROOT / name).exists() for name in copied if name != "README.md")
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert {f"!{name}" for name in copied} <= set(ignored)


@pytest.mark.parametrize("workers", ["rayjob", "cluster"])
def test_the_partitions_find_their_cpus(workers):
    fleet = config_of(parsed(JOB["spec"]["entrypoint"])[1]["config"]).fleet
    assert fleet.partitions > 0
    assert fleet.threads > 0
    if workers == "rayjob":
        count, cpus = WORKERS["replicas"], int(WORKERS["rayStartParams"]["num-cpus"])
        requests = WORKERS["template"]["spec"]["containers"][0]["resources"]["requests"]
        assert int(requests["cpu"]) >= cpus
        assert HEAD["rayStartParams"]["num-cpus"] == "0"
    else:
        count = CLUSTER["min_workers"]
        cpus = int(start_options(CLUSTER["worker_start_ray_commands"][-1])["num-cpus"])
        assert start_options(CLUSTER["head_start_ray_commands"][-1])["num-cpus"] == "0"
    assert count * (cpus // fleet.threads) >= fleet.partitions  # an actor's CPUs lie on one node


@pytest.mark.parametrize("pod", sorted(PODS))
def test_pods_ask_for_what_they_use_and_share_the_directory(pod):
    spec = PODS[pod]["spec"]
    (container,) = spec["containers"]
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert spec["securityContext"]["runAsNonRoot"] is True
    user = spec["securityContext"]["runAsUser"]
    assert f"--uid {user} " in DOCKERFILE
    (mount,) = container["volumeMounts"]
    (volume,) = spec["volumes"]
    assert mount["mountPath"] == "/shared"
    assert mount["name"] == volume["name"]
    assert volume["persistentVolumeClaim"]["claimName"] == "raysal-shared"


def test_ray_wants_a_token_everywhere():
    assert SPEC["authOptions"] == {"mode": "token", "secretName": "raysal-ray-token"}
    assert "secret generic raysal-ray-token --from-literal=auth_token=" in (DEPLOY / "README.md").read_text()
    for pod in PODS.values():
        assert {"name": "RAY_AUTH_MODE", "value": "token"} in pod["spec"]["containers"][0]["env"]
    assert "ENV RAY_AUTH_MODE=token\n" in DOCKERFILE
    assert "--env=RAY_AUTH_MODE=token" in CLUSTER["docker"]["run_options"]
    for node in ("head", "worker"):
        starts = [line for line in CLUSTER[f"{node}_start_ray_commands"] if "ray start" in line]
        assert starts
        assert all("RAY_AUTH_MODE=token " in line for line in starts)
    (path,) = CLUSTER["file_mounts"]
    assert f"--env=RAY_AUTH_TOKEN_PATH={path}" in CLUSTER["docker"]["run_options"]


def test_nobody_reaches_the_dashboard_from_outside():
    assert start_options(CLUSTER["head_start_ray_commands"][-1])["dashboard-host"] == "127.0.0.1"
    # KubeRay's operator has to reach a RayJob's dashboard: the policy admits it and the cluster's pods.
    (label,) = POLICY["spec"]["podSelector"]["matchLabels"].items()
    assert all(label in pod["metadata"]["labels"].items() for pod in PODS.values())
    assert POLICY["spec"]["policyTypes"] == ["Ingress"]
    inside, operator = POLICY["spec"]["ingress"]
    assert inside == {"from": [{"podSelector": {"matchLabels": dict([label])}}]}
    assert [port["port"] for port in operator["ports"]] == [8265]
    (source,) = operator["from"]
    assert source["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}


def test_versions_agree():
    assert SPEC["rayVersion"] == PINS["ray"]
    base = re.search(r"^ARG BASE=python:(\d+)\.(\d+)", DOCKERFILE, re.MULTILINE)
    floor = re.fullmatch(r">=(\d+)\.(\d+)", PROJECT["requires-python"])
    assert tuple(map(int, base.groups())) >= tuple(map(int, floor.groups()))
    installs = re.findall(r"pip install (.*)$", DOCKERFILE, re.MULTILINE)
    assert len(installs) == 3
    assert all("-c constraints.txt" in line for line in installs)
    assert not re.search(r"==\d", DOCKERFILE)  # pins have one home
    assert "torch" in PINS
    for extra in re.search(r"^ARG EXTRAS=(\S+)", DOCKERFILE, re.MULTILINE).group(1).split(","):
        assert extra in PROJECT["optional-dependencies"]


def test_the_image_does_not_run_as_root():
    lines = [line.split()[0] for line in DOCKERFILE.splitlines() if re.match(r"[A-Z]+ ", line)]
    assert lines.index("USER") > max(place for place, word in enumerate(lines) if word == "RUN")
    assert "USER raysal" in DOCKERFILE
    assert 'ENTRYPOINT ["raysal"]' in DOCKERFILE
    assert '--entrypoint=""' in CLUSTER["docker"]["run_options"]  # ray up starts a shell
