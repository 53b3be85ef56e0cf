"""What MkDocs does not do by itself: pages from outside docs/, and links to source files.

A link in a page is written so that it works in the repository: `../raysal/rng.py` from docs/, `docs/models.md` from the
README. On the site, a page that stands elsewhere is linked where it stands, and a source file is a page of its own.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/RESULTS.md": "results.md",
    "deploy/README.md": "cluster.md",
}
HISTORY = {f"benchmarks/history/{path.name}": f"history/{path.name}" for path in ROOT.glob("benchmarks/history/*.md")}
PAGES |= HISTORY
"""path in the repository -> path on the site, of the pages outside docs/"""
LINK = re.compile(r"(?<=\]\()([^)#\s]+)")
LANGUAGE = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".json": "json", ".yml": "yaml"}
SOURCE = """---
search: {{exclude: true}}
hide: [navigation, toc]
---
# {name}

```{language} linenums="1"
{text}
```
"""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside docs/, a page for each source file that some page links to, and the style."""
    files.append(File.generated(config, "assets/site.css", abs_src_path=str(Path(__file__).with_name("site.css"))))
    for path, uri in PAGES.items():
        shown = InclusionLevel.NOT_IN_NAV if path in HISTORY else InclusionLevel.UNDEFINED
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path), inclusion=shown))
    for page in list(files.documentation_pages()):
        for target in LINK.findall(page.content_string):
            uri = place_of(target, page)
            if uri and files.get_file_from_path(uri) is None:
                files.append(source_page(config, uri))
    return files


def source_page(config: Any, uri: str) -> File:
    """A page that shows a source file; `uri` is where `place_of` says it is."""
    name = uri.removeprefix("source/").removesuffix(".md")
    text = (ROOT / name).read_text(encoding="utf-8").replace("```", "`\u200b``")
    content = SOURCE.format(name=name, language=LANGUAGE.get(Path(name).suffix, "text"), text=text.rstrip())
    return File.generated(config, uri, content=content, inclusion=InclusionLevel.NOT_IN_NAV)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn the links of a page from those of the repository into those of the site."""
    here = posixpath.dirname(page.file.src_uri)

    def link(found: re.Match[str]) -> str:
        uri = place_of(found[1], page.file)
        return found[1] if uri is None else posixpath.relpath(uri, here or ".")

    return LINK.sub(link, markdown)


def place_of(target: str, page: File) -> str | None:
    """The path on the site of what a link of a page leads to; None if it is no file of the repository."""
    inside = {uri: path for path, uri in PAGES.items()}
    if "://" in target or page.src_uri.startswith("source/"):
        return None
    home = posixpath.dirname(inside.get(page.src_uri, f"docs/{page.src_uri}"))
    path = posixpath.normpath(posixpath.join(home, target))
    if not (ROOT / path).is_file():
        return None
    if path in PAGES:
        return PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}.md"
