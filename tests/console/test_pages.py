"""Pages: what they show, whom they let change what, and that what users sent stays text."""

import html
import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from tests.console.served import Answer, Stack, ask

PAGES = (
    "/",
    "/?user=ann",
    "/?user=ann&explain=1&filter=genre%3DDrama&pin=i9%3D1&exclude=i5&diversity=0.3&k=4&seen=1",
    "/?history=i1,i2",
    "/beam",
    "/beam?user=ann&k=5",
    "/beam?user=ann&k=5&filter=genre%3DDrama",
    "/similar",
    "/similar?items=i3",
    "/similar?items=i3&space=behavior&filter=genre%3DDrama",
    "/similar?text=Film+a",
    "/catalog",
    "/catalog/item",
    "/catalog/item?id=i3",
    "/catalog/item?id=i3&delete=1",
    "/catalog/item?id=nothing",
    "/bundles",
    "/bundles/change?version=x",
    "/load",
    "/load/now",
    "/sign-in",
    "/api",
)
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


def words(answer: Answer) -> str:
    """What a page says, without its markup."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", answer.text)))


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_whole_by_itself(stack: Stack, path: str) -> None:
    answer = ask(stack.open, path)
    assert answer.status == 200, words(answer)
    assert "//" not in re.sub(r'(xmlns="|http://127\.0\.0\.1:\d+)[^"\s]*', "", answer.text)
    assert not re.findall(r"<[^>]* (?:style|on\w+)=", answer.text)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    for used in set(re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text)):
        assert ask(stack.open, used).status == 200


def test_an_htmx_request_gets_the_page_too(stack: Stack) -> None:
    headers = {"hx-request": "true", "hx-boosted": "true"}
    pages = [ask(stack.open, "/?user=ann", headers=sent).text for sent in ({}, headers)]
    plain, boosted = (re.sub(r"[\d.]+ ms", "", page) for page in pages)
    assert plain == boosted


def test_recommendations_have_titles_and_a_history(stack: Stack) -> None:
    shown = words(ask(stack.open, "/?user=ann&k=3&explain=1"))
    asked = ask(stack.open, "/v1/users/ann/recommendations?maxResults=3&itemFields=title").json
    for item in asked["recommendations"]:
        assert item["title"] in shown
    history = shown.partition("History")[2]
    for item_id in ("i0", "i1", "i2"):
        assert ask(stack.open, f"/v1/items/{item_id}").json["items"][0]["title"] in history
    assert "because of" in shown


def test_a_mistake_in_a_form_is_told(stack: Stack) -> None:
    for query in ("filter=genre", "pin=i1", "k=many", "diversity=very"):
        answer = ask(stack.open, f"/?user=ann&{query}")
        assert answer.status == 400
        assert "MALFORMED_FIELD" in words(answer)
    unknown = ask(stack.open, "/?user=ann&filter=smell%3Dsweet")
    assert (unknown.status, "UNKNOWN_ATTRIBUTE" in words(unknown)) == (400, True)
    assert ask(stack.open, "/?user=nobody").status == 404
    assert ask(stack.open, "/nowhere").status == 404


def test_a_pin_is_kept_and_what_is_hidden_is_not_shown(stack: Stack) -> None:
    shown = words(ask(stack.open, "/?user=ann&k=4&pin=i9%3D2&exclude=i7"))
    assert "pinned" in shown
    assert "Film 7 " not in shown.partition("History")[0]


@pytest.fixture
def hostile(stack: Stack) -> Iterator[str]:
    """An item whose every field is markup."""
    item_id = f"h{HOSTILE}"
    fields = {"id": item_id, "title": HOSTILE, "text": HOSTILE, "attributes": f"genre = {HOSTILE}"}
    assert ask(stack.open, "/catalog/add", form=fields).status == 303
    yield item_id
    assert ask(stack.open, "/catalog/delete", form={"id": item_id}).status == 303


def test_what_an_item_says_stays_text(stack: Stack, hostile: str) -> None:
    named = urlencode({"id": hostile, "items": hostile, "history": hostile, "pin": f"{hostile}=1"})
    other = urlencode({"user": HOSTILE, "filter": HOSTILE, "text": HOSTILE, "version": HOSTILE})
    seen = 0
    for path in ("/catalog/item", "/similar", "/", "/catalog", "/beam", "/bundles/change"):
        for query in (named, other, f"{named}&user=ann&k=100&explain=1"):
            text = ask(stack.open, f"{path}?{query}").text
            assert "<script>" not in text
            assert "<img src=x" not in text
            seen += "&lt;script&gt;" in text
    assert seen >= 6


def test_an_item_is_added_changed_and_removed(stack: Stack) -> None:
    form = {
        "id": "new/1 é",
        "title": "New",
        "text": "Film a",
        "attributes": "year = 1990\ng = a; b",
    }
    added = ask(stack.open, "/catalog/add", form=form)
    assert added.status == 303
    shown = words(ask(stack.open, added.headers["location"]))
    assert "Saved" in shown
    assert "1990" in shown
    assert "a, b" in shown
    ask(stack.open, "/catalog/add", form={**form, "title": "Newer"})
    assert ask(stack.open, "/v1/items/new%2F1%20%C3%A9").json["items"][0]["title"] == "Newer"
    gone = ask(stack.open, "/catalog/delete", form={"id": "new/1 é"})
    assert "Removed" in words(ask(stack.open, gone.headers["location"]))


def test_a_mistake_in_an_item_changes_nothing(stack: Stack) -> None:
    answer = ask(stack.open, "/catalog/add", form={"id": "x", "text": "t", "attributes": "genre"})
    assert (answer.status, "MALFORMED_FIELD" in words(answer)) == (400, True)
    assert ask(stack.open, "/catalog/add", form={"id": "x", "text": ""}).status == 400
    assert ask(stack.open, "/v1/items/x").json["missingItemIds"] == ["x"]


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
    ],
)
def test_another_sites_form_changes_nothing(stack: Stack, headers: dict[str, str]) -> None:
    form = {"id": "csrf", "text": "Film", "key": "k", "version": "tiny/whole"}
    for path in ("/catalog/add", "/catalog/delete", "/bundles/change", "/sign-in", "/sign-out"):
        answer = ask(stack.open, path, form=form, headers=headers)
        assert (answer.status, "OTHER_SITE" in words(answer)) == (403, True)
    assert ask(stack.open, "/v1/items/csrf").json["missingItemIds"] == ["csrf"]


def test_the_servings_version_can_be_activated_again(stack: Stack) -> None:
    version = ask(stack.open, "/v1/bundles").json["bundles"][0]["bundleVersion"]
    assert f"{version} serving" in words(ask(stack.open, "/bundles"))
    confirm = ask(stack.open, f"/bundles/change?{urlencode({'version': version})}")
    assert f"Serve {version}" in words(confirm)
    assert ask(stack.open, "/bundles/change", form={"version": version}).status == 303
    refused = ask(stack.open, "/bundles/change", form={"version": "tiny/none", "what": "load"})
    assert refused.status in (400, 404)


def test_the_beam_shows_what_the_filter_pruned(stack: Stack) -> None:
    text = ask(stack.open, "/beam?user=ann&k=6&filter=genre%3DDrama").text
    rows = re.findall(r'<tr class="(kept|pruned|seen)">(.*?)</tr>', text, re.DOTALL)
    listed = ask(
        stack.open,
        "/v1/recommendations",
        json_={
            "userId": "ann",
            "strategy": "STRATEGY_GENERATE",
            "maxResults": 6,
            "constraints": {
                "filter": {"equals": {"attribute": "genre", "value": {"text": "Drama"}}}
            },
        },
    ).json["recommendations"]
    kept = re.findall(r'id=(i\d+)"', " ".join(row for fate, row in rows if fate == "kept"))
    assert sorted(kept) == sorted(item["itemId"] for item in listed)
    assert {fate for fate, _ in rows} >= {"kept", "pruned"}


def test_load_is_shown_from_the_metrics(stack: Stack) -> None:
    ask(stack.keyed, "/load")
    shown = words(ask(stack.keyed, "/load/now"))
    assert "gateway tiny/whole" in shown
    assert "--metrics" in words(ask(stack.open, "/load"))


def sign_in(stack: Stack, name: str) -> Answer:
    return ask(stack.keyed, "/sign-in", form={"key": stack.keys[name], "to": "/beam?user=ann"})


def test_who_signs_in_may_what_the_key_may(stack: Stack) -> None:
    assert ask(stack.keyed, "/?user=ann").status == 401
    begun = sign_in(stack, "operator")
    assert (begun.status, begun.headers["location"]) == (303, "/beam?user=ann")
    assert {"HttpOnly", "Path=/"} <= set(begun.headers["set-cookie"].split("; "))
    assert "samesite=strict" in begun.headers["set-cookie"].lower()
    assert stack.keys["operator"] not in begun.headers["set-cookie"]
    cookie = {"cookie": begun.cookie}
    for path in ("/?user=ann", "/bundles", "/beam?user=ann"):
        answer = ask(stack.keyed, path, headers=cookie)
        assert (answer.status, "Sign out" in words(answer)) == (200, True)
    guest = {"cookie": sign_in(stack, "guest").cookie}
    page = words(ask(stack.keyed, "/?user=ann", headers=guest))
    assert "Film " in page.partition("Recommendations")[2].partition("History")[0]
    assert "MISSING_RIGHT" in page.partition("History")[2]
    assert ask(stack.keyed, "/bundles", headers=guest).status == 403


def test_a_session_is_for_pages_alone(stack: Stack) -> None:
    cookie = {"cookie": sign_in(stack, "operator").cookie}
    assert ask(stack.keyed, "/v1/bundles", headers=cookie).status == 401


def test_a_wrong_key_is_refused(stack: Stack) -> None:
    answer = ask(stack.keyed, "/sign-in", form={"key": "wrong"})
    assert (answer.status, "INVALID_CREDENTIALS" in words(answer)) == (401, True)
    assert "set-cookie" not in answer.headers
    for key in ("", "é", "k" * 3_000):
        assert ask(stack.keyed, "/sign-in", form={"key": key}).status == 400


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", ""])
def test_signing_in_leads_nowhere_else(stack: Stack, to: str) -> None:
    form = {"key": stack.keys["guest"], "to": to}
    assert ask(stack.keyed, "/sign-in", form=form).headers["location"] == "/"


def test_a_forged_or_ended_session_is_nobodys(stack: Stack) -> None:
    begun = sign_in(stack, "operator")
    for cookie in (begun.cookie[:-3] + "abc", "tandem-console=x", "tandem-console=é"):
        assert ask(stack.keyed, "/bundles", headers={"cookie": cookie}).status == 401
    ended = ask(stack.keyed, "/sign-out", form={}, headers={"cookie": begun.cookie})
    assert 'tandem-console=""' in ended.headers["set-cookie"]
