"""List the licence of every package that is installed with the service: ``make licences``."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.paths import ROOT

PROJECT = ROOT / "pyproject.toml"
NOT_SHIPPED = {"bench", "dev"}
"""Extras for developers only."""

_SPDX = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
"""Trove classifiers, by which packages named their licences before SPDX expressions."""


def shipped() -> dict[str, Distribution]:
    """Return all packages that the service and its extras need, also indirectly, by name."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    waiting = [Requirement(it) for it in project["dependencies"]]
    waiting += [Requirement(it) for name in extras.keys() - NOT_SHIPPED for it in extras[name]]
    found: dict[str, Distribution] = {}
    done = set[tuple[str, frozenset[str]]]()
    while waiting:
        wanted = waiting.pop()
        name, asked = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if (name, asked) in done or not _applies(wanted, {""}):
            continue
        done.add((name, asked))
        found[name] = distribution(name)
        for line in found[name].requires or ():
            needed = Requirement(line)
            if _applies(needed, asked | {""}):
                needed.marker = None
                waiting.append(needed)
    return dict(sorted(found.items()))


def _applies(wanted: Requirement, extras: set[str] | frozenset[str]) -> bool:
    return wanted.marker is None or any(wanted.marker.evaluate({"extra": it}) for it in extras)


def licences(package: Distribution) -> set[str]:
    """Return the SPDX ids that a package names, including all alternatives."""
    told = package.metadata
    if expressions := told.get_all("License-Expression"):
        return set(re.split(r"[\s()]+", expressions[0])) - {"AND", "OR", ""}
    classified = [it for it in told.get_all("Classifier", []) if it.startswith("License ::")]
    named = [it.rpartition(" :: ")[2] for it in classified] or told.get_all("License", ["unknown"])
    return {_SPDX.get(it, it) for it in named}


def lines() -> Iterator[str]:
    """Return one line per package."""
    for name, package in shipped().items():
        yield f"{name:<42} {package.version:<12} {', '.join(sorted(licences(package)))}"


if __name__ == "__main__":
    print("\n".join(lines()))  # noqa: T201
