"""Builds the package with setuptools, after its page has been made of README.md.

A package index shows the page away from the repository, whose address nobody but its owner knows:
relative links would lead nowhere. They become the paths of files, all of which are in the source
distribution; the documentation is installed with the package, too. Named by ``build-backend`` in
pyproject.toml; building needs nothing but setuptools.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setuptools import build_meta

README, PAGE = Path("README.md"), Path("build/package-page.md")

_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://)([^)\s]*)\)")
_FIRST_PARAGRAPH_ENDS = "\n\n"
_WHERE = (
    "*Files named on this page are in the source distribution; `docs` and `config` are also "
    "installed, below `share/doc/kafka-kinesis-forwarder`.*"
)

_Settings = Mapping[str, Any] | None


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


def get_requires_for_build_wheel(config_settings: _Settings = None) -> list[str]:
    """Answer the hook of PEP 517: nothing but what pyproject.toml names."""
    _write_page()
    return list(build_meta.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_sdist(config_settings: _Settings = None) -> list[str]:
    """Answer the hook of PEP 517."""
    _write_page()
    return list(build_meta.get_requires_for_build_sdist(config_settings))


def get_requires_for_build_editable(config_settings: _Settings = None) -> list[str]:
    """Answer the hook of PEP 660."""
    _write_page()
    return list(build_meta.get_requires_for_build_editable(config_settings))


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: _Settings = None
) -> str:
    """Answer the hook of PEP 517."""
    _write_page()
    return str(build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings))


def prepare_metadata_for_build_editable(
    metadata_directory: str, config_settings: _Settings = None
) -> str:
    """Answer the hook of PEP 660."""
    _write_page()
    return str(build_meta.prepare_metadata_for_build_editable(metadata_directory, config_settings))


def build_sdist(sdist_directory: str, config_settings: _Settings = None) -> str:
    """Build the source distribution (PEP 517)."""
    _write_page()
    return str(build_meta.build_sdist(sdist_directory, config_settings))


def build_wheel(
    wheel_directory: str,
    config_settings: _Settings = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the wheel (PEP 517)."""
    _write_page()
    return str(build_meta.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_editable(
    wheel_directory: str,
    config_settings: _Settings = None,
    metadata_directory: str | None = None,
) -> str:
    """Build what an editable installation is made of (PEP 660)."""
    _write_page()
    return str(build_meta.build_editable(wheel_directory, config_settings, metadata_directory))
