"""Hooks of mkdocs: the site has the layout of the tree, so a link between files leads to the same file."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"\]\(([\w./-]+)(?:#[\w-]+)?\)")
_LANGUAGES = {".py": "python", ".sh": "sh", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}


class SourceFile(File):
    """A file of the tree that is a page of its own: its text as a block of code."""

    def is_documentation_page(self) -> bool:
        """Return True, whatever the name ends in."""
        return True


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files of docs/ below ``docs/``, and each file of the tree that a page leads to."""
    found = Files([])
    for file in files:
        # Others are of the theme.
        found.append(_file(config, File, f"docs/{file.src_uri}") if file.src_dir == config.docs_dir else file)
    found.append(_file(config, File, "README.md"))
    found.append(
        File("iframe-worker.js", str(ROOT / "tools"), f"{config.site_dir}/assets/javascripts", False)
    )
    pages = [file for file in found if file.is_documentation_page()]
    while pages:
        page = pages.pop()
        if Path(page.src_uri).suffix != ".md":
            continue
        for link in _LINK.findall(page.content_string):
            target = (ROOT / page.src_uri).parent.joinpath(link).resolve()
            if not target.is_file() or not target.is_relative_to(ROOT):
                continue
            name = target.relative_to(ROOT).as_posix()
            known = found.get_file_from_path(name)
            if known is None or (not known.is_documentation_page() and target.suffix in _LANGUAGES):
                if known is not None:
                    found.remove(known)
                found.append(_linked(config, name))
                pages.append(found.src_uris[name])
    return found


def _linked(config: MkDocsConfig, name: str) -> File:
    language = _LANGUAGES.get(Path(name).suffix)
    if language is None:
        return _file(config, File, name)
    file = _file(config, SourceFile, name)
    text = (ROOT / name).read_text(encoding="utf-8")
    file.content_string = f"# {name}\n\n````{language}\n{text}\n````\n"
    # Two files of a folder may differ in the ending alone.
    file.dest_uri = f"{name}.html"
    return file


def _file(config: MkDocsConfig, kind: type[File], name: str) -> File:
    return kind(name, str(ROOT), config.site_dir, config.use_directory_urls)
