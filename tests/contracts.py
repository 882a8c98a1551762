"""Generate the documents in `deploy/contracts` from the code: ``make contracts``."""

import json
from typing import Any

import yaml

from service.config import Config
from service.http.app import create_app
from service.http.asyncapi import asyncapi
from tests.paths import ROOT

FOLDER = ROOT / "deploy" / "contracts"


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document of the application, which needs no server for it."""
    return create_app(Config(database_url="postgresql://unused/unused")).openapi()


def documents() -> dict[str, str]:
    """Return the text of each document by its file name."""
    return {
        "openapi.json": json.dumps(openapi(), indent=2, ensure_ascii=False, sort_keys=True) + "\n",
        "asyncapi.yaml": yaml.safe_dump(asyncapi(), allow_unicode=True, sort_keys=False, width=99),
    }


def main() -> None:
    """Write the documents."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
