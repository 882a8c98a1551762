"""``/api/v1/tags`` and ``/api/v1/customers/{id}/tags``: tags, and those of one customer."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AfterValidator, ConfigDict, Field
from starlette.responses import Response

from service.core.numbers import whole_number
from service.core.tags import LONGEST_TAG, MOST_TAGS, tag_name
from service.db.customers import customer_row
from service.db.customers.tags import catalogue, tagging
from service.db.customers.tags.catalogue import Tag, TagNotFoundError, TagTakenError
from service.db.engine import in_transaction
from service.http.api.customer_routes import NOT_FOUND, CustomerNumber, gone
from service.http.api.models import Camel, Collection, collection
from service.http.auth.guard import Reader, Writer
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Fault, Problem, ProblemError, invalid
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/api/v1", tags=["tags"], responses=DOCUMENTED)

_NO_TAG: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such tag."}
}
_TAKEN: dict[int | str, dict[str, Any]] = {
    409: {
        "model": Problem,
        "description": "Another tag has this name. `merge` is where to merge the two.",
    }
}
_DIGITS = 15
TagName = Annotated[str, AfterValidator(tag_name), Field(max_length=4 * LONGEST_TAG)]


def _tag_id(tag: Annotated[str, Path(examples=["3"])]) -> int:
    number = whole_number(tag, _DIGITS)
    if number is None:
        raise no_tag()
    return number


TagId = Annotated[int, Depends(_tag_id)]
"""The id of a tag from the path. Any other text is answered with 404."""


class TagJson(Camel):
    """A tag."""

    model_config = ConfigDict(
        title="Tag",
        json_schema_extra={
            "examples": [
                {
                    "id": "3",
                    "name": "Wholesale",
                    "customers": 41,
                    "dateCreated": "2026-11-22T10:00:00Z",
                }
            ]
        },
    )

    id: str
    name: str = Field(description="As somebody wrote it. Capitals make no difference.")
    customers: int
    date_created: datetime


class Tags(Collection):
    """Tags, by name."""

    items: list[TagJson]


class TagsPatch(Camel):
    """Tags to give to a customer and to take away. Names that are new become tags."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"add": ["Wholesale", "Press"], "remove": ["Trial"]}]}
    )

    add: list[TagName] = Field([], max_length=MOST_TAGS)
    remove: list[TagName] = Field([], max_length=MOST_TAGS)


class CustomerTags(Camel):
    """The tags of a customer, by name."""

    tags: list[str] = Field(examples=[["Press", "Wholesale"]])


class TagPatch(Camel):
    """The new name of a tag."""

    name: TagName = Field(examples=["Wholesale"])


class TagMerge(Camel):
    """The tag that stays."""

    into: str = Field(
        description="The id of the tag that customers get instead.", max_length=20, examples=["3"]
    )


@router.get("/tags", response_model=Tags)
async def list_tags(
    request: Request, _: Reader, search: Annotated[str, Query(max_length=LONGEST_TAG)] = ""
) -> Response:
    """List tags by name: those whose name has `search` in it, at most 500."""
    if "\x00" in search:
        raise invalid("query.search", "contains the character U+0000; remove it")
    async with snapshot(request) as connection:
        found, total = await catalogue.list_tags(connection, search)
    return Json(collection([tag_json(tag) for tag in found], total))


@router.patch("/tags/{tag}", response_model=TagJson, responses=_NO_TAG | _TAKEN)
async def rename_tag(request: Request, actor: Writer, number: TagId, body: TagPatch) -> Response:
    """Rename a tag, for all customers who have it."""
    await renamed(request, actor.name, number, body.name)
    async with snapshot(request) as connection:
        return Json(tag_json(await catalogue.read_tag(connection, number)))


async def renamed(request: Request, actor: str, number: int, name: str) -> None:
    """Rename a tag. Raises a problem."""
    try:
        await in_transaction(state_of(request).engine, catalogue.rename, number, name, actor)
    except TagNotFoundError:
        raise no_tag() from None
    except TagTakenError as error:
        merge = f"/api/v1/tags/{number}/merge"
        detail = (
            f'Another tag has this name. To merge the two, send {{"into": "{error.args[0]}"}} to '
            f"{merge}."
        )
        faults = [Fault(where="body.name", message=detail)]
        raise ProblemError(409, "Tag exists", detail, faults, merge=merge) from None
    except ValueError as error:
        raise invalid("body.name", str(error)) from None


@router.post("/tags/{tag}/merge", response_model=TagJson, responses=_NO_TAG)
async def merge_tags(request: Request, actor: Writer, number: TagId, body: TagMerge) -> Response:
    """Give all customers of a tag another one instead, and delete it."""
    into = whole_number(body.into, _DIGITS)
    if into is None:
        raise invalid("body.into", "is not the id of a tag")
    await merged(request, actor.name, number, into)
    async with snapshot(request) as connection:
        return Json(tag_json(await catalogue.read_tag(connection, into)))


async def merged(request: Request, actor: str, number: int, into: int) -> None:
    """Merge a tag into another one. Raises a problem."""
    try:
        await in_transaction(state_of(request).engine, catalogue.merge, number, into, actor)
    except TagNotFoundError:
        raise no_tag() from None
    except ValueError as error:
        raise invalid("body.into", str(error)) from None


@router.delete("/tags/{tag}", status_code=204, responses=_NO_TAG)
async def delete_tag(request: Request, actor: Writer, number: TagId) -> Response:
    """Take a tag from all customers, and delete it."""
    await deleted(request, actor.name, number)
    return Response(status_code=204)


async def deleted(request: Request, actor: str, number: int) -> None:
    """Delete a tag. Raises a problem."""
    try:
        await in_transaction(state_of(request).engine, catalogue.delete, number, actor)
    except TagNotFoundError:
        raise no_tag() from None


@router.post("/customers/{id}/tags", response_model=CustomerTags, responses=NOT_FOUND)
async def tag_customer(
    request: Request, actor: Writer, number: CustomerNumber, body: TagsPatch
) -> Response:
    """Give tags to a customer, and take others away. The answer has those that they have then."""
    await retagged(request, actor.name, number, body)
    async with snapshot(request) as connection:
        row = await customer_row.read(connection, number)
    return Json({"tags": row.tags if row else []})


async def retagged(request: Request, actor: str, number: int, body: TagsPatch) -> None:
    """Change the tags of a customer. Raises a problem."""

    async def change(connection: Any) -> bool:
        return await tagging.change_tags(
            connection, number, actor, add=body.add, remove=body.remove
        )

    try:
        await in_transaction(state_of(request).engine, change)
    except tagging.NoSuchCustomerError:
        raise await gone(request, number) from None
    except tagging.TooManyTagsError:
        raise invalid("body.add", f"a customer can have {MOST_TAGS} tags at most") from None


def tag_json(tag: Tag) -> dict[str, Any]:
    """Return the JSON of a tag."""
    return {
        "id": str(tag.id),
        "name": tag.name,
        "customers": tag.customers,
        "dateCreated": tag.date_created,
    }


def no_tag() -> ProblemError:
    """Return the problem for a tag that does not exist."""
    return ProblemError(404, "Tag not found", "There is no tag with this id.")
