"""What is shipped: the wheel, the versions it asks for, the locks."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PACKAGES = {"server", "graph", "rest_compat", "resolvers", "engine", "db"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# The last release with a published vulnerability that concerns us.
VULNERABLE = {
    "cryptography": "49.9",
    "graphql-core": "3.3.1",
    "pyjwt": "2.14.9",
    "starlette": "1.3.0",
    "strawberry-graphql": "0.327.1",
}
BARE = re.compile(
    r"^[a-z0-9][a-z0-9._-]*(\[[a-z0-9,]+\])?==[^ ]+( ; [^\\]+)? \\$|^    --hash=sha256:[0-9a-f]{64}( \\)?$"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel built here, without a network and without an environment of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=50)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_the_wheel_holds_the_six_packages_and_nothing_beside(wheel: list[str]) -> None:
    assert {name.split("/")[0] for name in wheel} == PACKAGES | {f"loquent-{PROJECT['version']}.dist-info"}


def test_the_wheel_holds_every_module(wheel: list[str]) -> None:
    modules = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert {name for name in wheel if name.endswith(".py")} == modules


def test_the_wheel_holds_what_is_not_python(wheel: list[str]) -> None:
    beside = {name for name in wheel if "dist-info" not in name and not name.endswith(".py")}
    assert {"db/migrations/script.py.mako", "graph/schema.graphql"} <= beside
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "server/playground").rglob("*") if path.is_file()}
    assert pages - set(wheel) - {name for name in pages if "__pycache__" in name} == set()
    assert any(name.endswith(".html") for name in beside)


def test_no_other_distribution_brings_a_package_of_our_names() -> None:
    owners = packages_distributions()
    assert {name: set(owners[name]) for name in PACKAGES if name in owners and set(owners[name]) != {"loquent"}} == {}


@pytest.mark.parametrize("name", VULNERABLE)
def test_a_release_with_a_known_vulnerability_is_not_accepted(name: str) -> None:
    floors = {Requirement(text).name: Requirement(text).specifier for text in PROJECT["dependencies"]}
    assert VULNERABLE[name] not in floors[name]
    assert version(name) in floors[name]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_pins_by_hash_and_holds_no_address(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not BARE.match(line)] == []


@pytest.mark.parametrize(("name", "extras"), [("requirements.lock", []), ("requirements-dev.lock", ["local", "dev"])])
def test_a_lock_pins_everything_that_is_asked_for(name: str, extras: list[str]) -> None:
    pins = dict(
        re.findall(
            r"^([a-z0-9._-]+)(?:\[[a-z0-9,]+\])?==([^ ]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE
        )
    )
    asked = [*PROJECT["dependencies"], *(text for extra in extras for text in PROJECT["optional-dependencies"][extra])]
    for requirement in map(Requirement, asked):
        assert pins[requirement.name] in requirement.specifier, requirement
