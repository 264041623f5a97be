"""What this shell hands to a cluster, by a job and by joining: the same, once, and nothing secret."""

import json

import pytest

from tundish.cluster import handed, on_ray

TOLD = {
    "TUNDISH_STORAGE": "s3://near?endpoint=http://127.0.0.1:9000",
    "TUNDISH_MIN_FREE": "5GB",
    "TUNDISH_TOKENS": "/mnt/nvme/tokens=200GB",
}


@pytest.fixture(autouse=True)
def none_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*handed.OURS, handed.JOB):
        monkeypatch.delenv(name, raising=False)


def test_workers_are_told_of_stores_disks_and_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on_ray.workers_env() == on_ray.WORKER_ENV
    for name, text in TOLD.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("TUNDISH_SIGNING_KEY", "key.pem")
    monkeypatch.setenv("TUNDISH_CACHE", "/home/me/cache")
    assert on_ray.workers_env() == on_ray.WORKER_ENV | TOLD
    assert handed.variables() == TOLD


def test_what_a_job_gave_is_not_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray refuses a driver whose environment names a variable of its job's, were it the same."""
    for name, text in TOLD.items():
        monkeypatch.setenv(name, text)
    given = {"env_vars": {"TUNDISH_STORAGE": TOLD["TUNDISH_STORAGE"], "OMP_NUM_THREADS": "4"}}
    monkeypatch.setenv(handed.JOB, json.dumps({"runtime_env": given, "metadata": {}}))
    said = on_ray.workers_env()
    assert not set(said) & set(given["env_vars"])
    assert said["TUNDISH_MIN_FREE"] == "5GB"
    for empty in ("", "{}", '{"runtime_env": null}', '{"runtime_env": {"env_vars": null}}'):
        monkeypatch.setenv(handed.JOB, empty)
        assert on_ray.workers_env() == on_ray.WORKER_ENV | TOLD


def test_a_credential_among_them_is_refused_unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNDISH_STORAGE", "s3://AKIAKEY:wJalrXUtn@bucket?region=eu")
    with pytest.raises(ValueError, match=r"^'TUNDISH_STORAGE=s3://\*\*\*@bucket.* carries a credential") as caught:
        on_ray.workers_env()
    assert "wJalr" not in str(caught.value)
