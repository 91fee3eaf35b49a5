"""What is there to deploy with fits the program: names of settings, probes, users, times; and the topology itself, as processes."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psutil
import pytest
import yaml
from sqlalchemy.engine import URL

from deploy import standin, topology
from rest_compat.routes import OPERATIONS
from server.settings import Settings, variables
from tests.faults.ports import free_port
from tests.services import new_database

ROOT = Path(__file__).parent.parent
KUBERNETES = ROOT / "deploy/kubernetes"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
KNOWN = {name for field in Settings.model_fields for name in variables(field)}
# Read by uvicorn and by Python, not by us.
OTHERS = {"FORWARDED_ALLOW_IPS", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
PATHS = {one.path for one in OPERATIONS}


def manifests() -> dict[str, dict[str, Any]]:
    """Each Kubernetes object by its kind."""
    files = sorted(KUBERNETES.glob("*.yaml"))
    documents = [one for file in files for one in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
    return {one["kind"]: one for one in documents}


def image_environment() -> dict[str, str]:
    words = [word for line in re.findall(r"^ENV (.*)$", DOCKERFILE, re.MULTILINE) for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words)


def test_every_name_in_an_environment_is_a_setting() -> None:
    deployment = (KUBERNETES / "server.yaml").read_text(encoding="utf-8")
    used = {
        "Dockerfile": set(image_environment()),
        "compose.yaml": set(COMPOSE["services"]["server-1"]["environment"]),
        "ConfigMap": set(manifests()["ConfigMap"]["data"]),
        "Secret": set(re.findall(r"--from-literal=(\w+)=", deployment)),
    }
    assert all(len(names) > 2 for names in used.values())
    assert {place: names - KNOWN - OTHERS for place, names in used.items()} == {key: set() for key in used}


def test_values_in_an_environment_hold(tmp_path: Path) -> None:
    for given in (
        image_environment(),
        COMPOSE["services"]["server-1"]["environment"],
        manifests()["ConfigMap"]["data"],
    ):
        fields = {field: name for field in Settings.model_fields for name in variables(field) if name in given}
        plain = {field: given[name] for field, name in fields.items() if "${" not in given[name]}
        assert Settings.model_validate({"data": tmp_path, **plain}).port == 8000


def test_image_runs_as_nobody_and_says_how_it_is() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (\d+):(\d+)$", last, re.MULTILINE) == [("10001", "10001")]
    assert "COPY . ." not in last
    healthcheck = re.search(r"HEALTHCHECK.*http://127\.0\.0\.1:(\d+)(/\w+)", last)
    assert healthcheck is not None
    assert healthcheck[1] == image_environment()["PORT"]
    assert healthcheck[2] in PATHS
    sources = re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE)
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_compose_confines_both_servers_and_lets_them_finish() -> None:
    services = COMPOSE["services"]
    assert [name for name in services if name.startswith("server")] == ["server-1", "server-2"]
    for name in ("server-1", "server-2", "migrate"):
        one = services[name]
        assert (one["read_only"], one["user"], one["cap_drop"]) == (True, "10001:10001", ["ALL"])
        assert one["volumes"] == ["state:/data"]
    for name in ("server-1", "server-2"):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > float(
            services[name]["environment"]["DRAIN_SECONDS"]
        )
    assert services["caddy"]["environment"]["UPSTREAMS"] == "server-1:8000 server-2:8000"
    named = {volume.partition(":")[0] for one in services.values() for volume in one.get("volumes", ())}
    assert {name for name in named if not name.startswith(".")} == set(COMPOSE["volumes"])


def test_caddyfile_asks_for_readiness_and_is_valid(tmp_path: Path) -> None:
    text = (ROOT / "deploy/Caddyfile").read_text(encoding="utf-8")
    asked = re.search(r"health_uri (\S+)", text)
    assert asked is not None
    assert asked[1] in PATHS
    assert text.count("{") == text.count("}")
    caddy = shutil.which("caddy")
    if caddy is not None:
        command = [caddy, "validate", "--adapter", "caddyfile", "--config", str(ROOT / "deploy/Caddyfile")]
        done = subprocess.run(command, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_kubernetes_objects_name_each_other_rightly() -> None:
    found = manifests()
    listed = found["Kustomization"]["resources"]
    assert {*listed, "kustomization.yaml"} == {file.name for file in KUBERNETES.iterdir()}
    labels = {"app.kubernetes.io/name": "loquent"}
    assert found["Deployment"]["spec"]["template"]["metadata"]["labels"] == labels
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    backend = found["Ingress"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    service = found["Service"]
    assert (backend["name"], backend["port"]["name"]) == (
        service["metadata"]["name"],
        service["spec"]["ports"][0]["name"],
    )
    assert 1 <= found["PodDisruptionBudget"]["spec"]["minAvailable"] < found["Deployment"]["spec"]["replicas"]


def test_kubernetes_pod_is_confined_probed_and_lets_go_slowly() -> None:
    found = manifests()
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    server = pod["containers"][0]
    for container in (server, *pod["initContainers"]):
        confined: Mapping[str, Any] = container["securityContext"]
        assert (confined["readOnlyRootFilesystem"], confined["allowPrivilegeEscalation"]) == (True, False)
        assert confined["capabilities"] == {"drop": ["ALL"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
        assert [one["configMapRef"]["name"] for one in container["envFrom"] if "configMapRef" in one] == [
            found["ConfigMap"]["metadata"]["name"]
        ]
    probes = {kind: server[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert probes == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/ready"}
    assert set(probes.values()) <= PATHS
    waited = float(server["lifecycle"]["preStop"]["exec"]["command"][1])
    drained = float(found["ConfigMap"]["data"]["DRAIN_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] > waited + drained


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="NO KUBECTL: deploy/kubernetes is only read as YAML")
def test_kustomization_builds() -> None:
    done = subprocess.run(["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(yaml.safe_load_all(done.stdout))) == len(manifests()) - 1


@pytest.fixture(params=["stand-in", "caddy"])
def running(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgresql_server: URL,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[topology.Topology]:
    if request.param == "stand-in":
        monkeypatch.setattr(shutil, "which", lambda _: None)
    elif shutil.which("caddy") is None:
        pytest.skip("NO CADDY: the topology is only tried behind its stand-in")
    freely = {"DEMO_PACE": "0.02", "DRAIN_SECONDS": "1"}
    with new_database(postgresql_server, f"loquent_topology_{tmp_path.name}") as database:
        address = database.render_as_string(hide_password=False)
        with topology.running(tmp_path, address, redis_url, environment=freely) as found:
            yield found


FOLLOW = "subscription Follow($id: ID!) { generation(id: $id) { seq ... on TextDelta { text } } }"
SEND = """mutation Send($id: ID!) {
  sendMessage(input: {conversationId: $id, content: [{text: "Please count to 40"}], generate: {}}) { generation { id } }
}"""


def ask(client: httpx2.Client, query: str, **variables: object) -> Any:
    found = client.post("/graphql", json={"query": query, "variables": variables}).json()
    assert "errors" not in found
    return found["data"]


def test_generation_started_through_the_door_is_followed_at_either_server(running: topology.Topology) -> None:
    with httpx2.Client(base_url=running.door, timeout=30) as client:
        token = ask(client, "mutation { guestLogin { accessToken } }")["guestLogin"]["accessToken"]
        client.headers["authorization"] = f"Bearer {token}"
        created = ask(client, "mutation { createConversation(input: {}) { conversation { id } } }")
        conversation = created["createConversation"]["conversation"]["id"]
        id = ask(client, SEND, id=conversation)["sendMessage"]["generation"]["id"]
        told = [followed(address, token, id) for address in (*running.servers, running.door)]
        assert told[0] == told[1] == told[2]
        assert [int(word) for word in "".join(told[0]).split()] == list(range(1, 41))
        # One leaves; whoever comes through the door hardly notices.
        running.processes[0].terminate()
        running.processes[0].wait(topology.STOP_SECONDS)
        assert {client.get("/healthz").status_code for _ in range(6)} == {200}
        assert followed(running.door, token, id) == told[0]


def followed(address: str, token: str, id: str) -> list[str]:
    """The words of a generation, told by server-sent events."""
    headers = {"authorization": f"Bearer {token}", "accept": "text/event-stream"}
    body = {"query": FOLLOW, "variables": {"id": id}}
    words = []
    with httpx2.stream("POST", f"{address}/graphql", json=body, headers=headers, timeout=30) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            found = re.search(r'"text":"([^"]*)"', line)
            if found is not None:
                words.append(found[1])
    return ["".join(words)]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_ends_the_topology_ends_all_that_it_has_started(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "deploy.topology", "--port", str(free_port())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            while not (line := process.stdout.readline()).startswith("Loquent is at"):
                assert process.poll() is None, "it has ended before it was there"
            children = psutil.Process(process.pid).children(recursive=True)
            assert len(children) >= 3, line
        finally:
            process.send_signal(number)
        assert process.wait(2 * topology.STOP_SECONDS) == 0
    assert not [child for child in children if child.is_running()]


@pytest.mark.anyio
async def test_stand_in_passes_over_a_server_that_is_away() -> None:
    async def greet(reader: Any, writer: Any) -> None:
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        there, away, door = server.sockets[0].getsockname()[1], topology._free_port(), topology._free_port()
        task = asyncio.create_task(standin.serve(door, [("127.0.0.1", away), ("127.0.0.1", there)]))
        with anyio.fail_after(10):
            for _ in range(2):
                assert await _heard(door) == b"hello"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _heard(port: int) -> bytes:
    while True:
        try:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                return await stream.receive()
        except OSError:
            await anyio.lowlevel.checkpoint()
