"""The README names every setting and every command, and no others."""

import re
from pathlib import Path

from service.cli.main import app
from service.config import Config

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_every_setting_is_listed_and_no_other() -> None:
    listed = set(re.findall(r"^\|.*?\|", README, re.MULTILINE))
    named = {name for cell in listed for name in re.findall(r"`CRM_([A-Z_]+)`", cell)}
    assert named == {name.upper() for name in Config.model_fields}


def test_every_command_is_listed_and_no_other() -> None:
    named = set(re.findall(r"^\| `crm ([a-z-]+)", README, re.MULTILINE))
    named |= set(re.findall(r"`crm (import) ", README))
    commands = {
        command.name or (command.callback.__name__ if command.callback else "")
        for command in app.registered_commands
    }
    assert named == commands | {str(group.name) for group in app.registered_groups}


def test_every_make_target_named_exists() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)`", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
