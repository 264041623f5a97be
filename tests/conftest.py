"""What every test shares: data that may be absent, and room on small disks."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("TUNDISH_MIN_FREE", "200MB")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # several processes test beside each other; threads of each would wait
# a shell that runs the tests in the background has them ignore Ctrl-C, and their children with them
signal.signal(signal.SIGINT, signal.default_int_handler)
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


# each starts a Ray
RAY = {"test_crawl_nodes", "test_jobs", "test_model_pretrain", "test_ray_cluster", "test_resume", "test_wheel"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes (`-n 2 --dist loadgroup`) a file's tests stay together, for what they share is made once;
    and so do all that start a Ray."""
    for item in items:
        name = item.path.stem
        item.add_marker(pytest.mark.xdist_group("ray" if name in RAY else name))


@pytest.fixture(autouse=True)
def _one_mind_about_tokens() -> Iterator[None]:
    """Ray reads whether it asks for a token once a process, and a Ray begun later is told by the environment: where a
    test leaves the two at odds, it is at fault, and not the one after it that finds a Ray it cannot talk to."""
    yield
    raylet, said = sys.modules.get("ray._raylet"), os.environ.get("RAY_AUTH_MODE")
    if raylet is not None and said is not None:
        asks = raylet.get_authentication_mode() == raylet.AuthenticationMode.TOKEN
        assert asks == (said == "token"), f"RAY_AUTH_MODE is {said}, and Ray goes by another"


@pytest.fixture(scope="session")
def data() -> Path:
    """Real labelled data, where it lies beside the checkout."""
    if not DATA.is_dir():
        pytest.skip("the labelled data does not lie beside this checkout")
    return DATA
