"""The files of ``deploy`` as tests read them."""

import shutil
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"

Yaml = dict[str, Any]


def parsed(path: Path) -> Yaml:
    content: Yaml = yaml.safe_load(path.read_text())
    return content


def instructions(dockerfile: str, name: str) -> list[str]:
    text = (DEPLOY / dockerfile).read_text().replace("\\\n", " ")
    return [
        line.removeprefix(name).strip() for line in text.splitlines() if line.startswith(f"{name} ")
    ]


def as_mounted(folder: Path, *files: Path) -> Path:
    """Lay files out as the kubelet does with a ConfigMap: links into a hidden folder."""
    hidden = folder / "..2026_01_01"
    hidden.mkdir(parents=True)
    (folder / "..data").symlink_to(hidden.name)
    for file in files:
        shutil.copy(file, hidden / file.name)
        (folder / file.name).symlink_to(Path("..data") / file.name)
    return folder
