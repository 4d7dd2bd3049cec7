"""The documentation names modules and pages that exist, and no issue that its readers cannot look up."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_modules_and_pages_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    modules = re.findall(r"`((?:registry|plugins|tests|benchmarks)/[\w/]+\.py)", text)
    links = [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)]
    assert [name for name in modules if not (ROOT / name).is_file()] == []
    assert [link for link in links if link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("benchmarks/**/*.py"))], ids=lambda page: page.name)
def test_a_page_names_no_issue_by_number(page: Path) -> None:
    assert not re.search(r"\bissues? #?\d", page.read_text(encoding="utf-8"), re.IGNORECASE)


def test_the_page_about_architecture_has_a_row_for_every_package() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    packages = {file.parent.name for file in ROOT.glob("registry/*/__init__.py")}
    assert [name for name in sorted(packages) if f"`registry/{name}`" not in page] == []


def test_the_glossary_explains_each_word_once() -> None:
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| `", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    words = [word for row in rows for word in row.split(", ")]
    assert len(words) > 40 and len(words) == len(set(words))
