"""Import the module of a command when the command is called."""

import contextlib
import gc
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import without garbage collection, which takes a fifth of that time and finds nothing.

    It does not look at what was imported later either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def lazy_group(modules: Mapping[str, str]) -> type[TyperGroup]:
    """Return a class of groups that also have these commands.

    ``modules`` maps the name of each to a module of this package and a name in it: ``module:name``.
    """

    class LazyGroup(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  as Typer calls it
            return [*(name for name in self.commands if name not in modules), *modules]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name not in self.commands:
                # The answer to an unknown name suggests one of all.
                for name in [cmd_name] if cmd_name in modules else modules:
                    self.add_command(_command(name, modules[name]), name)
            return super().get_command(ctx, cmd_name)

    return LazyGroup


def _command(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    with importing():
        found = getattr(import_module(f"{__package__}.{module}"), attribute)
    holder = typer.Typer(rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name)(found)
    return get_group(holder).commands[name]
