"""What `loquent doctor` looks at: each check tells how something stands, and where it stands badly how to mend that."""

from __future__ import annotations

import asyncio
import errno
import shutil
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from db.base import Database, StorageError, database_url
from db.diagnosis import examine
from engine.events import ErrorCode
from engine.http import HttpClient, Timeouts
from engine.providers.base import Provider, UpstreamError
from engine.tools.servers import ServerSpec
from engine.vault import Vault, VaultError
from resolvers.provider_keys import lost_marks
from server import tool_list
from server.services import KEY_FILE, MASTER_FILE
from server.serving import UNSPECIFIED
from server.settings import Settings, SettingsError
from server.upstreams import registry

Verdict = Literal["ok", "warning", "failed"]

SECONDS = 10.0
_LITTLE, _LEAST = 1 << 30, 100 << 20
_SKEW, _LARGEST_SKEW = 2.0, 30.0
# Before this the program was not written.
_EARLIEST = 1_767_225_600
_FOREIGN = 0o077


class Finding(msgspec.Struct, frozen=True):
    """`remedy` says what to do where something is to be done. Neither tells a secret."""

    check: str
    verdict: Verdict
    message: str
    remedy: str = ""


async def findings(settings: Settings) -> AsyncGenerator[Finding]:
    """One after another, as they are found. Nothing is changed, and no key or file is made."""
    for found in _of_the_folder(settings.data):
        yield found
    yield _of_the_clock()
    vault, found = _of_the_master_key(settings)
    yield found
    async for found in _of_the_database(settings, vault):
        yield found
    if settings.redis_url is not None:
        yield await _of_redis(settings.redis_url.get_secret_value())
    http = HttpClient(Timeouts(connect=3.0, first_byte=SECONDS, idle=SECONDS, whole=SECONDS))
    try:
        async for found in _of_the_outside(settings, http):
            yield found
        yield await _of_the_port(settings, http)
    finally:
        await http.close()


def _of_the_folder(folder: Path) -> Iterator[Finding]:
    place = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    name = "data folder"
    if not place.is_dir():
        yield Finding(name, "failed", f"{place} is no folder", "Set LOQUENT_DATA to a folder")
        return
    if not _is_writable(place):
        yield Finding(
            name, "failed", f"{place} cannot be written to", f"chown it to the user who runs the server: {place}"
        )
    elif place == folder and folder.stat().st_mode & _FOREIGN:
        yield Finding(name, "warning", f"{folder} is open to other users", f"chmod 700 {folder}")
    else:
        yield Finding(name, "ok", f"{folder}" if place == folder else f"{folder} will be made")
    for path in (folder / KEY_FILE, folder / MASTER_FILE):
        if path.exists() and path.stat().st_mode & _FOREIGN:
            yield Finding("secrets", "failed", f"{path} can be read by other users", f"chmod 600 {path}")
    free = shutil.disk_usage(place).free
    room = f"{free / 1e9:.1f} GB are free where {folder} is"
    if free < _LITTLE:
        yield Finding("disk", "failed" if free < _LEAST else "warning", room, "Make room, or move LOQUENT_DATA")
    else:
        yield Finding("disk", "ok", room)


def _is_writable(folder: Path) -> bool:
    probe = folder / f".loquent-doctor-{time.time_ns()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def _of_the_clock() -> Finding:
    if time.time() < _EARLIEST:
        return Finding(
            "clock", "failed", "This machine's clock is years behind", "Switch on NTP (timedatectl set-ntp true)"
        )
    return Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def _of_the_master_key(settings: Settings) -> tuple[Vault | None, Finding]:
    name, path = "master secret", settings.data / MASTER_FILE
    try:
        if settings.master_key is not None:
            return Vault(settings.master_key.get_secret_value()), Finding(name, "ok", "from LOQUENT_MASTER_KEY")
        if path.exists():
            return Vault.from_file(path), Finding(name, "ok", str(path))
    except (VaultError, OSError) as error:
        remedy = "Bring back LOQUENT_MASTER_KEY or the file from a backup, or give its keys up: loquent key discard"
        return None, Finding(name, "failed", str(error), remedy)
    return None, Finding(name, "ok", f"{path} will be made at the first start")


async def _of_the_database(settings: Settings, vault: Vault | None) -> AsyncGenerator[Finding]:
    name, url = "database", database_url(settings.database_address)
    if settings.workers > 1 and url.get_backend_name() == "sqlite":
        yield Finding(name, "failed", "Several WORKERS need PostgreSQL", "Set DATABASE_URL, or WORKERS to 1")
    if url.get_backend_name() == "sqlite" and not _is_there(url.database):
        # To look would make it.
        yield Finding(name, "ok", f"{url.database} will be made at the first start")
        return
    database = Database(settings.database_address)
    try:
        async with asyncio.timeout(SECONDS):
            found = await examine(database)
            lost = await lost_marks(database, vault) if vault is not None and found.revision == found.newest else ()
    except (StorageError, TimeoutError) as error:
        message = str(error) if isinstance(error, StorageError) else "the database does not answer in time"
        cause = f": {type(error.__cause__).__name__}" if error.__cause__ is not None else ""
        remedy = "Start it, and check the address, user and password in DATABASE_URL; nobody else may hold its lock"
        yield Finding(name, "failed", f"{message}{cause}", remedy)
        return
    finally:
        await database.close()
    kind = "SQLite" if database.dialect == "sqlite" else "PostgreSQL"
    yield Finding(name, "ok", f"{kind} {found.version} {'takes writes' if found.revision else 'answers'}")
    yield _of_the_tables(settings, found.revision, found.newest)
    if found.skew is not None:
        yield _of_the_skew(found.skew)
    if lost:
        remedy = "Bring back the secret that they were sealed with, or give them up: loquent key discard"
        yield Finding("stored keys", "failed", "Some were sealed with a master secret that is not here", remedy)


def _is_there(file: str | None) -> bool:
    return file is not None and Path(file).exists()


def _of_the_tables(settings: Settings, revision: str | None, newest: str) -> Finding:
    if revision == newest:
        return Finding("migrations", "ok", f"at {revision}, the newest")
    if revision is not None and revision > newest:
        remedy = "Run the newer version of Loquent that has upgraded the database"
        return Finding("migrations", "failed", f"The database is at {revision}, this version knows {newest}", remedy)
    behind = f"The database is at {revision or 'no revision'}, this version needs {newest}"
    if settings.auto_migrate:
        return Finding("migrations", "warning", behind, "The next start does it, or now: loquent migrate")
    return Finding("migrations", "failed", behind, "loquent migrate")


def _of_the_skew(skew: float) -> Finding:
    name, message = (
        "clock of the database",
        f"{abs(skew):.1f} seconds {'ahead of' if skew > 0 else 'behind'} this machine's",
    )
    if abs(skew) < _SKEW:
        return Finding(name, "ok", message)
    verdict: Verdict = "failed" if abs(skew) > _LARGEST_SKEW else "warning"
    return Finding(name, verdict, message, "Switch on NTP on both machines (timedatectl set-ntp true)")


async def _of_redis(url: str) -> Finding:
    # Late: its client is large, and only those who have a Redis need it.
    from engine.redis_ping import ping  # noqa: PLC0415

    version, problem = await ping(url)
    if version is not None:
        return Finding("redis", "ok", f"Redis {version}")
    remedy = "Start it, and check REDIS_URL; until then servers look into the database each second"
    return Finding("redis", "failed", problem, remedy)


async def _of_the_outside(settings: Settings, http: HttpClient) -> AsyncGenerator[Finding]:
    try:
        models = registry(settings, http)
    except SettingsError as error:
        yield Finding("models", "failed", str(error), "Correct model_list in the YAML file")
        return
    try:
        for found in await asyncio.gather(*map(_of_a_provider, models.providers)):
            yield found
    finally:
        await models.close()
    for found in await asyncio.gather(*(_of_tools(spec, http) for spec in tool_list.specs(settings.mcp_servers))):
        yield found
    if settings.keys_address is not None:
        yield await _of_the_issuer(settings.keys_address, http)


async def _of_a_provider(provider: Provider) -> Finding:
    name = f"provider {provider.name}"
    try:
        async with asyncio.timeout(SECONDS):
            models = await provider.models()
    except UpstreamError as error:
        remedies = {
            ErrorCode.PROVIDER_AUTH: "Set a key that the provider accepts",
            ErrorCode.UNAVAILABLE: "Start it, or correct its address, or let this machine connect to it",
        }
        remedy = remedies.get(error.code, "Look at its own log, and at its address")
        return Finding(name, "failed", error.message, remedy)
    except TimeoutError:
        return Finding(name, "failed", "It does not answer in time", "Look at its own log")
    if not models:
        return Finding(name, "warning", "It offers no models", "Give it models, or take it out of the settings")
    return Finding(name, "ok", f"{len(models)} {'model' if len(models) == 1 else 'models'}")


async def _of_tools(spec: ServerSpec, http: HttpClient) -> Finding:
    # Late: the SDK is large, and only those who have tool servers need it.
    from engine.tools.probe import probe  # noqa: PLC0415

    name = f"tool server {spec.name}"
    count, problem = await probe(spec, http)
    if count is not None:
        return Finding(name, "ok", f"{count} tools")
    return Finding(name, "failed", problem, "Start it, or correct its command or address in mcp_servers")


async def _of_the_issuer(address: str, http: HttpClient) -> Finding:
    try:
        await http.get_json(address, {})
    except UpstreamError as error:
        remedy = "Correct JWKS_URL; until then nobody can sign in by the external issuer"
        return Finding("external issuer", "failed", error.message, remedy)
    return Finding("external issuer", "ok", "its keys can be read")


async def _of_the_port(settings: Settings, http: HttpClient) -> Finding:
    name, place = "port", f"{settings.host} port {settings.port}"
    problem = _listening_problem(settings.host, settings.port)
    if problem is None:
        return Finding(name, "ok", f"{place} is free")
    if problem.errno != errno.EADDRINUSE:
        message = f"Nothing can listen on {place}: {problem.strerror}"
        return Finding(name, "failed", message, "Set HOST and PORT otherwise")
    try:
        host = UNSPECIFIED.get(settings.host, settings.host)
        answer = msgspec.json.decode(await http.get_json(f"http://{host}:{settings.port}/version", {}))
        return Finding(name, "ok", f"Loquent {answer['version']} serves on {place}")
    except (UpstreamError, msgspec.DecodeError, KeyError, TypeError):
        return Finding(name, "failed", f"Another program listens on {place}", "Stop it, or set PORT to another one")


def _listening_problem(host: str, port: int) -> OSError | None:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
    except OSError as error:
        return error
    return None
