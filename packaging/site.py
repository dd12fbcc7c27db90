"""The site has the repository's own layout: a hook of mkdocs, named in mkdocs.yml.

So one relative link serves both readers, of the repository and of the site. The pages are those of the navigation,
wherever they lie; what they link to beside (pictures, licences) comes along. A page that links to a file that is not
there, or to a page that the navigation lacks, is a warning, and so an error in a strict build; and so is a script, a
font, a style or a picture that a reader's browser would fetch from another host.
"""

import logging
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from pymdownx.slugs import slugify

logger = logging.getLogger("mkdocs.hooks.site")  # below mkdocs' own, whose warnings a strict build counts

ROOT = Path(__file__).parent.parent
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link\b(?![^>]*\brel=["']?canonical)[^>]*?\bhref=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|class=["']?mermaid\b"""  # whose script the theme would fetch
)
_ITEM = re.compile(r"(- |\d+\. )")
_LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Headings get the anchors that they have in the repository."""
    config["mdx_configs"]["toc"]["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The navigation's pages, every page of docs/, and what these link to, in place of what mkdocs found in docs/."""
    pages = set(pages_of(config["nav"])) | {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    ours = {config["theme"]["logo"], config["theme"]["favicon"], *map(str, config["extra_css"])}
    beside = {name for name in ours if (ROOT / name).is_file()}  # plugins add styles that they make themselves
    of_the_theme = [file for file in files if file.src_dir != config["docs_dir"]]
    return Files([*of_the_theme, *(_file(name, config) for name in sorted(pages | linked_from(pages) | beside))])


def on_page_markdown(markdown: str, **_: object) -> str:
    """Begin a list that follows a paragraph at once: the repository shows it as one, and Python's Markdown does not."""
    lines: list[str] = []
    fenced = in_list = False
    for line in markdown.splitlines():
        fenced ^= line.lstrip().startswith("```")
        is_item = not fenced and _ITEM.match(line) is not None
        if is_item and not in_list and lines and lines[-1].strip():
            lines.append("")
        in_list = not fenced and (is_item or (in_list and line.startswith(" ")))
        lines.append(line)
    return "\n".join(lines) + "\n"


def on_post_build(config: MkDocsConfig) -> None:
    """See that whoever reads the site is heard of by its own host alone."""
    for page in sorted(Path(config["site_dir"]).rglob("*.html")):
        for fetched in _FETCHED.findall(page.read_text(encoding="utf-8")):
            logger.warning("%s would fetch from another host: %s", page.name, fetched)


def pages_of(nav: Any) -> list[str]:
    """Names of the navigation's pages, relative to the repository, in its order."""
    if isinstance(nav, str):
        return [nav]
    entries = nav.values() if isinstance(nav, dict) else nav
    return [name for entry in entries for name in pages_of(entry)]


def linked_from(pages: set[str]) -> set[str]:
    """Names of files, other than pages, that pages link to; they lie inside of the repository."""
    found = set()
    for page in pages:
        if not (ROOT / page).is_file():
            continue
        for link in _LINK.findall((ROOT / page).read_text(encoding="utf-8")):
            target = ((ROOT / page).parent / unquote(link)).resolve()
            if target.is_relative_to(ROOT) and target.is_file() and target.suffix != ".md":
                found.add(target.relative_to(ROOT).as_posix())
    return found


def _file(name: str, config: MkDocsConfig) -> File:
    return File(name, str(ROOT), config["site_dir"], config["use_directory_urls"], inclusion=InclusionLevel.INCLUDED)
