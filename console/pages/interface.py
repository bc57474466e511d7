"""What programs may ask, for people who write them."""

from starlette.responses import Response

from console.api.routes import ROUTES
from console.calls.contract import RPCS
from console.pages.site import Visit


async def interface(visit: Visit) -> Response:
    """The paths of REST, and those of Connect and gRPC-Web."""
    origin = str(visit.request.base_url).rstrip("/")
    return visit.page("api.html", routes=ROUTES, rpcs=list(RPCS.values()), origin=origin)
