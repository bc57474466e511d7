"""The documents say what the code does."""

import re
from pathlib import Path

from tests.deploy.settings_tables import DOCUMENT, replace_tables

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [
    *REPOSITORY.glob("*.md"),
    *(REPOSITORY / "docs").rglob("*.md"),
]


def test_the_tables_of_settings_are_current() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert replace_tables(text) == text, "run python -m tests.deploy.settings_tables"


def test_every_reason_of_an_error_is_explained() -> None:
    operations = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `([A-Z][A-Z_]+)` \|", operations, re.MULTILINE))
    raised = set()
    for package in ("core", "serving", "services", "gateway"):
        for file in (REPOSITORY / package).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            raised |= set(re.findall(r'reason(?:_full)?=(?:failure\.reason or )?"([A-Z_]+)"', text))
    assert explained == raised


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            linked = (document.parent / path).resolve() if path else document
            assert linked.exists(), f"{document}: {target}"
            if anchor:
                assert anchor in _anchors(linked), f"{document}: {target}"


def test_decisions_are_numbered_without_gaps_and_all_have_the_same_parts() -> None:
    files = sorted((REPOSITORY / "docs" / "adr").glob("*.md"))
    decisions = [file for file in files if file.name != "README.md"]
    assert [int(file.name[:4]) for file in decisions] == list(range(1, len(decisions) + 1))
    index = (REPOSITORY / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    for file in decisions:
        text = file.read_text(encoding="utf-8")
        title = text.splitlines()[0].removeprefix("# ")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
            "Context",
            "Decision",
            "Consequences",
        ], file.name
        assert f"[{title}]({file.name})" in index


def _anchors(document: Path) -> set[str]:
    """The anchors that headings get from GitHub."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
