"""Builds the package with setuptools, after its page has been made of README.md.

A package index shows the page away from the repository, whose address nobody but its owner knows:
relative links would lead nowhere. They become the paths of files, all of which are in the source
distribution; the documentation is installed with the package, too. Named by ``build-backend`` in
pyproject.toml. Where the native core cannot be compiled, a package of pure Python is built instead.
"""

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import native_core
from setuptools import build_meta

README, PAGE = Path("README.md"), Path("build/package-page.md")

_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://)([^)\s]*)\)")
_FIRST_PARAGRAPH_ENDS = "\n\n"
_WHERE = (
    "*Files named on this page are in the source distribution; `docs` and `config` are also "
    "installed, below `share/doc/kafka-kinesis-forwarder`.*"
)

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


def page(readme: str) -> str:
    """Return the readme as the page of the package: without links that lead nowhere from there."""
    title, end, rest = readme.partition(_FIRST_PARAGRAPH_ENDS)
    return _LINK.sub(_without_link, f"{title}{end}{_WHERE}{_FIRST_PARAGRAPH_ENDS}{rest}")


def _without_link(match: re.Match[str]) -> str:
    text, target = match.group(1), match.group(2).partition("#")[0]
    if not target:
        return text
    return f"`{target}`" if text.strip("`") == target else f"{text} (`{target}`)"


def _write_page() -> None:
    """Make the page; pyproject.toml says that it is the readme."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(README.read_text(encoding="utf-8")), encoding="utf-8")


def _with_page(hook: Callable[_Arguments, _Answer]) -> Callable[_Arguments, _Answer]:
    """Return a hook of setuptools that finds the page made."""

    @functools.wraps(hook)
    def made(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Answer:
        _write_page()
        return hook(*args, **kwargs)

    return made


def _with_core_or_without(hook: Callable[_Arguments, _Answer]) -> Callable[_Arguments, _Answer]:
    """Return a hook that builds once more, without the native core, if that is what failed."""

    @functools.wraps(hook)
    def made(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Answer:
        why = native_core.obstacle()
        if why is None:
            try:
                return hook(*args, **kwargs)
            except SystemExit:  # what setuptools makes of the compiler's failure
                if native_core.needed():
                    raise
            why = "it could not be compiled"
            os.environ[native_core.VARIABLE] = "0"
        native_core.say(why)
        return hook(*args, **kwargs)

    return made


# The hooks of PEP 517 and, for editable installations, of PEP 660.
get_requires_for_build_sdist = _with_page(build_meta.get_requires_for_build_sdist)
get_requires_for_build_wheel = _with_page(build_meta.get_requires_for_build_wheel)
get_requires_for_build_editable = _with_page(build_meta.get_requires_for_build_editable)
prepare_metadata_for_build_wheel = _with_page(build_meta.prepare_metadata_for_build_wheel)
prepare_metadata_for_build_editable = _with_page(build_meta.prepare_metadata_for_build_editable)
build_sdist = _with_page(build_meta.build_sdist)
build_wheel = _with_core_or_without(_with_page(build_meta.build_wheel))
build_editable = _with_core_or_without(_with_page(build_meta.build_editable))
