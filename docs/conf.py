"""How Sphinx builds these pages into build/docs: `make docs`."""

from __future__ import annotations

import inspect
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import packetwalk

HERE = Path(__file__).resolve().parent
logging.getLogger("traitlets").setLevel(logging.WARNING)  # not a line for each notebook that is run
os.environ["COLUMNS"] = "110"  # how wide what the pages run may print

# Sphinx reads nothing above its own folder, and notebooks/ is where people look for them: hence a copy, ignored by git.
shutil.rmtree(HERE / "notebooks", ignore_errors=True)
shutil.copytree(HERE.parent / "notebooks", HERE / "notebooks", ignore=shutil.ignore_patterns(".*"))

project = "packetwalk"
author = "the packetwalk authors"
copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "packetwalk"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_show_sourcelink = html_copy_source = False
exclude_patterns = ["**/.ipynb_checkpoints"]
default_role = "code"  # docstrings are plain text with `names`
suppress_warnings = ["mystnb.unknown_mime_type"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_render_markdown_format = "myst"  # a comparison shows itself as Markdown tables
nb_ipywidgets_js: dict[str, Any] = {}  # no widgets here, and these scripts would come from elsewhere

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True


def skip_member(app: Any, what: str, name: str, obj: object, skip: bool, options: Any) -> bool | None:
    """Leave out what says nothing: the fields of a named tuple, which its own docstring tells, and tuple's methods."""
    return True if type(obj).__name__ == "_tuplegetter" or name in ("count", "index") else None


def plain_text(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with `names` and indented examples; say so in reStructuredText."""
    written, example, before = [], False, ""
    for line in lines:
        example = bool(line.startswith(" ") and (example or not before.strip())) or (example and not line.strip())
        if example and line.strip() and not before.strip() and written[-1:] != ["::"]:
            written += ["::", ""] if not any(part.startswith(" ") for part in written[-2:]) else []
        parts = line.strip().split("`")
        parts[::2] = [re.sub(r"([\\*|]|_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
        written.append(line if example else "`".join(parts))
        before = line
    lines[:] = written


def complete_api(app: Any, docname: str, source: list[str]) -> None:
    """Append each name of the front door that api.md has not put under a heading."""
    if docname != "api":
        return
    entries = [_entry(name) for name in packetwalk.__all__]
    lines = [f".. auto{kind}:: {target}" for kind, target in entries if f":: {target}\n" not in source[0]]
    if lines:
        source[0] += "\n## More\n\n```{eval-rst}\n.. currentmodule:: packetwalk\n\n" + "\n".join(lines) + "\n```\n"


def _entry(name: str) -> tuple[str, str]:
    """The kind of a name of the front door, as autodoc calls it, and what to ask autodoc for."""
    value = getattr(packetwalk, name)
    if inspect.ismodule(value):
        return "module", value.__name__
    return next((kind for kind in ("class", "function") if getattr(inspect, f"is{kind}")(value)), "data"), name


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-docstring", plain_text)
    app.connect("source-read", complete_api)
