"""Pages of one list: which part of it an answer has, and the token that leads to the next.

A page is a part of the whole list, which is made anew for each page. The token says where the next
page begins, and holds a digest of all that the list is made of, so that pages of two lists are
never taken for one. It is no secret and no signature: who makes one up gets a part of what it may
ask for anyway. Any gateway reads it.
"""

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass, replace
from typing import Final

from core.errors import InvalidArgument
from gateway.domain import Answer, Query
from serving.validation import negative, page_token_error
from tandem.v1 import recommendation_service_pb2 as pb

_TOKEN: Final = struct.Struct(">BB16s")
"""The version of the token's form, where the page begins, and the digest."""
_FORM: Final = 1


@dataclass(frozen=True)
class Page:
    """A part of a list."""

    size: int = 0
    """How many items; 0 for all that are left."""
    start: int = 0
    """The place of its first item, from 0."""
    digest: bytes | None = None
    """Of the list that the page before is from; None for a first page."""

    @property
    def whole(self) -> bool:
        """Whether it is all of the list."""
        return not self.size and self.digest is None


def read_page(request: pb.RecommendRequest) -> Page:
    """Checks which part of the list a caller asks for.

    Raises:
        InvalidArgument: reason NEGATIVE_PAGE_SIZE or INVALID_PAGE_TOKEN.
    """
    if request.page_size < 0:
        raise negative(
            "page_size", request.page_size, "the whole list", reason="NEGATIVE_PAGE_SIZE"
        )
    if not request.page_token:
        return Page(request.page_size)
    try:
        token = base64.b64decode(request.page_token, altchars=b"-_", validate=True)
        form, start, digest = _TOKEN.unpack(token)
    except (ValueError, binascii.Error, struct.error):
        raise page_token_error() from None
    if form != _FORM:
        raise page_token_error()
    return Page(request.page_size, start, digest)


def digest_of(query: Query, answer: Answer, *versions: str) -> bytes:
    """Names the list that an answer has, by all that it is made of.

    Args:
        query: what was asked for.
        answer: what came of it.
        versions: of the bundles that it was made from.
    """
    asked = replace(query, history=None, forbid_degraded=False, diagnostics=False, item_fields=())
    return fingerprint(asked, answer.history, versions)


def cut(answer: Answer, page: Page, digest: bytes) -> tuple[Answer, str]:
    """Takes a page out of a list.

    A list that a service is missing from is not the list of the page before, and that is not the
    caller's mistake: the answer says that it is degraded, and may repeat items.

    Args:
        answer: with the whole list.
        page: the part.
        digest: of the list.

    Returns:
        The answer with the page's items alone, and the token of the next page; empty on the last.

    Raises:
        InvalidArgument: reason INVALID_PAGE_TOKEN, where the page before is from another list.
    """
    if page.digest is not None and page.digest != digest:
        if all(each.reason == "MIXED_VERSIONS" for each in answer.degradations):
            raise _other_list()
        digest = page.digest
    end = page.start + page.size if page.size else len(answer.items)
    following = ""
    if end < len(answer.items):
        following = base64.urlsafe_b64encode(_TOKEN.pack(_FORM, end, digest)).decode()
    return replace(answer, items=answer.items[page.start : end]), following


def fingerprint(*parts: object) -> bytes:
    """Names what something depends on without telling it, for it says what people did.

    Args:
        parts: values whose `repr` says all of them, such as dataclasses of texts and numbers.

    Returns:
        16 bytes.
    """
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


def _other_list() -> InvalidArgument:
    return InvalidArgument(
        "page_token is not from this list: the request, the user's history or a bundle is another "
        "than it was; begin anew without one",
        reason="INVALID_PAGE_TOKEN",
    )
