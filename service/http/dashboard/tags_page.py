"""``/tags``: all tags, to rename, merge and delete them; and what was done to many customers."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.core.scopes import Actor
from service.core.tags import LONGEST_TAG, tag_key
from service.db.customers.tags import bulk, catalogue
from service.http.api import bulk_changes, tags
from service.http.api.bulk_changes import ChangeId
from service.http.api.tags import TagId
from service.http.dashboard.formats import store_clock
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Editor, Form, Viewer
from service.http.problems import ProblemError
from service.http.state import snapshot

router = APIRouter(prefix="/tags", include_in_schema=False)

_BULK_CHANGES = 10
"""How many of the latest are shown."""
_NOT_FOUND = 404


@router.get("")
async def show(
    request: Request,
    actor: Viewer,
    part: Annotated[str, Query(alias="find", max_length=LONGEST_TAG)] = "",
) -> Response:
    """Show the tags whose name has a text in it, and the latest bulk changes."""
    return await _page(request, actor, part=part.replace("\x00", ""))


@router.post("/{tag}/rename")
async def rename(request: Request, actor: Editor, number: TagId, fields: Form) -> Response:
    """Give a tag another name."""
    try:
        await tags.renamed(request, actor.name, number, fields.get("name", ""))
    except ProblemError as error:
        return await _refused(request, actor, number, error, "Another tag has this name. Merge it.")
    return done("/tags", "tag-renamed")


@router.post("/{tag}/merge")
async def merge(request: Request, actor: Editor, number: TagId, fields: Form) -> Response:
    """Give the customers of a tag another one instead."""
    async with snapshot(request) as connection:
        into = await catalogue.find(connection, fields.get("into", ""))
    try:
        if into is None:
            raise tags.no_tag()
        await tags.merged(request, actor.name, number, into)
    except ProblemError as error:
        return await _refused(request, actor, number, error, "There is no other tag of this name.")
    return done("/tags", "tags-merged")


@router.post("/{tag}/delete")
async def delete(request: Request, actor: Editor, number: TagId) -> Response:
    """Take a tag from all customers and delete it."""
    await tags.deleted(request, actor.name, number)
    return done("/tags", "tag-deleted")


@router.post("/changes/{change}/undo")
async def undo(request: Request, actor: Editor, number: ChangeId) -> Response:
    """Undo a bulk change."""
    await bulk_changes.undone(request, actor.name, number)
    return done("/tags#changes", "bulk-undone")


async def _refused(
    request: Request, actor: Actor, number: int, error: ProblemError, otherwise: str
) -> Response:
    """Show the page again, and beside the tag what is wrong."""
    problem = error.problem
    own = f"The name {problem.errors[0].message}." if problem.status == _INVALID else otherwise
    return await _page(request, actor, fault=(number, own))


_INVALID = 422


async def _page(
    request: Request, actor: Actor, *, part: str = "", fault: tuple[int, str] | None = None
) -> Response:
    async with snapshot(request) as connection:
        clock = await store_clock(request, connection)
        found, total = await catalogue.list_tags(connection, part)
        latest = await bulk.latest(connection, _BULK_CHANGES)
    return page(
        request,
        actor,
        "tags.html",
        status=_INVALID if fault else 200,
        tags=found,
        total=total,
        part=part,
        by_name=bool(tag_key(part)),
        latest=latest,
        now=clock.now,
        fault=fault,
    )
