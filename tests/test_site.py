"""The documentation as a site, which `make site` builds: every page has its place, what pages show is the app's own."""

import re
from pathlib import Path
from typing import Any

import yaml

import mcnet
import mcnet.engine
from tests.app.ui.screenshot import OF_THE_PAGE

ROOT = Path(__file__).parent.parent
NOT_FOR_USERS = {
    "__version__",
    "Lack",
    "Precision",
    "Runtime",
    "chosen_backend",
    "gpu_lacks",
    "lacks_openvino",
    "other_gpus",
    "gpus",
    "resized",
    "why_no_cuda",
    "why_no_openvino",
    "why_no_torch",
}


def _pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for entry in (nav.values() if isinstance(nav, dict) else nav) for page in _pages(entry)]


def test_every_page_is_in_the_menu_once() -> None:
    menu = _pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert len(menu) == len(set(menu))
    assert {page for page in menu if page.startswith("docs/")} == {
        f"docs/{path.name}" for path in ROOT.glob("docs/*.md")
    }
    assert [page for page in menu if not (ROOT / page).is_file()] == []


def test_the_page_of_names_has_every_public_one() -> None:
    named = re.findall(
        r"^::: mcnet\.(?:[a-z_]+\.)*(\w+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(named) == len(set(named))
    assert (set(mcnet.__all__) | set(mcnet.engine.__all__)) - NOT_FOR_USERS <= set(named)


def test_the_messages_that_troubleshooting_quotes_are_the_apps_own() -> None:
    code = [path for folder in ("app", "mcnet") for path in (ROOT / folder).rglob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in code)
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # a sentence of several literals
    source = re.sub(r"\{[^{}]*\}", "...", source)
    rows = re.findall(
        r"^\| ([^|]+) \|", (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    quoted = [quote for row in rows for quote in re.findall(r'"([^"]+)"', row)]
    assert len(quoted) > 10
    assert [quote for quote in quoted if quote not in source] == []


def test_the_windows_pictures_are_those_that_the_screenshots_make() -> None:
    shown = re.findall(r"\]\(window/(\w[\w-]*)\.jpg\)", (ROOT / "docs" / "window.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(OF_THE_PAGE.values())
    assert {path.name for path in ROOT.glob("docs/window/*")} == {f"{name}.jpg" for name in shown}
