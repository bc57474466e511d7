"""The catalog: items page by page, one looked up, and for those who may, added and removed."""

from urllib.parse import urlencode

from starlette.responses import Response
from starlette.routing import Route

from console.pages.site import Site, Visit
from tandem.v1 import catalog_service_pb2 as pb
from tandem.v1 import common_pb2

PAGE = 50


def routes(site: Site) -> list[Route]:
    """The pages of the catalog."""
    return [
        site.route("/catalog", listed),
        site.route("/catalog/item", item),
        site.route("/catalog/add", add, "POST"),
        site.route("/catalog/delete", delete, "POST"),
    ]


async def listed(visit: Visit) -> Response:
    """A page of the catalog."""
    request = pb.ListItemsRequest(page_size=PAGE, page_token=visit.query.get("after", ""))
    found = await visit.attempt("CatalogService", "ListItems", request)
    status = found.failure.http_status if found.failure and visit.reaches("candidate") else 200
    return visit.page("catalog.html", status, found=found, changes=visit.reaches("candidate"))


async def item(visit: Visit) -> Response:
    """One item, with a form to change it by; an empty form for one that there is not."""
    item_id = visit.query.get("id", "").strip()
    items = await visit.items([item_id])
    return visit.page(
        "item.html",
        item_id=item_id,
        item=items.get(item_id),
        changes=visit.reaches("candidate"),
        deleting=bool(visit.query.get("delete")),
    )


async def add(visit: Visit) -> Response:
    """Adds an item or replaces it."""
    given = await visit.form()
    new = pb.NewItem(
        item_id=given.get("id", "").strip(),
        title=given.get("title", "").strip(),
        text=given.get("text", "").strip(),
        attributes=attributes_in(given.get("attributes", "")),
    )
    await visit.call("CatalogService", "UpsertItems", pb.UpsertItemsRequest(items=[new]))
    return visit.go(f"/catalog/item?{_query(new.item_id)}&saved=1")


async def delete(visit: Visit) -> Response:
    """Removes an item."""
    item_id = (await visit.form()).get("id", "")
    await visit.call("CatalogService", "DeleteItems", pb.DeleteItemsRequest(item_ids=[item_id]))
    return visit.go(f"/catalog/item?{_query(item_id)}&gone=1")


def attributes_in(text: str) -> dict[str, common_pb2.AttributeValues]:
    """Attributes as the form has them: a line each, `genre = Comedy; Drama` or `year = 1995`.

    Raises:
        ValueError: a line is not written so.
    """
    attributes = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, sign, values = line.partition("=")
        read = [_value(value.strip()) for value in values.split(";") if value.strip()]
        if not (name.strip() and sign and read):
            raise ValueError(f"{line!r} is no attribute; write genre = Comedy; Drama")
        attributes[name.strip()] = common_pb2.AttributeValues(values=read)
    return attributes


def _value(text: str) -> common_pb2.AttributeValue:
    """A number where it reads as one: texts of digits alone are rare, and need the client."""
    try:
        return common_pb2.AttributeValue(number=float(text))
    except ValueError:
        return common_pb2.AttributeValue(text=text)


def _query(item_id: str) -> str:
    return urlencode({"id": item_id})
