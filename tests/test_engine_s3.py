"""What a map asks of an S3. Runs where moto's server is installed, as tests/test_s3.py says."""

import os
import shutil
import urllib.request

import pytest

from tests.test_local_cluster import SOURCE, mapped
from tests.test_s3 import bucket  # noqa: F401 - a fixture
from tundish.cluster.local import Local
from tundish.cluster.shards import opened
from tundish.cluster.target import lost

pytestmark = pytest.mark.skipif(shutil.which("moto_server") is None, reason="moto's server is not installed")


def test_a_map_in_s3_makes_no_folders(bucket: str) -> None:  # noqa: F811
    """Two requests to one key for every file written, from every worker, are what a store refuses first."""
    out = f"{bucket}/runs/first-0123456789"
    mapped(Local(), out)
    with urllib.request.urlopen(f"{os.environ['AWS_ENDPOINT_URL']}/{bucket.removeprefix('s3://')}?list-type=2") as told:
        keys = [key.partition("</Key>")[0] for key in told.read().decode().split("<Key>")[1:]]
    assert len(keys) == 3 * (2 * len(SOURCE.names) + 1)
    assert not [key for key in keys if key.endswith("/")]
    again = opened(f"{out}/lengths")
    assert again is not None
    assert again.rows == 10066
    assert lost(again) is None
