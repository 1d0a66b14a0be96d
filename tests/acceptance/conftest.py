"""Fixtures of the acceptance tests: a topic, a group and a folder for every test of its own."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster
from tests.acceptance.harness import Site
from tests.acceptance.scene import Scene


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def cluster(kafka: str) -> AsyncIterator[Cluster]:
    async with Cluster(kafka) as cluster:
        yield cluster


@pytest.fixture
async def scene(cluster: Cluster, tmp_path: Path, name: str) -> AsyncIterator[Scene]:
    """Make a new topic of two partitions, and a group without a connection yet."""
    scene = Scene.make(cluster, tmp_path, name)
    await cluster.create(scene.topic, 2)
    yield scene
    scene.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Site]:
    """Make a folder without any Kafka."""
    site = Site(tmp_path, {"kafka": {"bootstrap_servers": ["127.0.0.1:1"], "topics": ["raw"]}})
    yield site
    site.close()
