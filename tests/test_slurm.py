"""cluster/files/slurm.sh: its functions, and whole runs where srun, scontrol, ray and tundish are stand-ins that write
down how they were called. `ray start --block` stays, as it does, until it is ended."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from ray.scripts.scripts import start
from ray.util.state.state_cli import ray_list

SCRIPT = Path(__file__).resolve().parents[1] / "cluster" / "files" / "slurm.sh"
STAND_INS = {
    "scontrol": 'echo "scontrol $*" >> "$CALLS"; printf "n1\\nn2\\nn3\\n"',
    # takes its own options off, and runs the rest here as if it were there
    "srun": """
        for word in "$@"; do
            case $word in --nodelist=*) export MACHINE=${word#*=} ;; esac
            case $word in --*) shift ;; *) break ;; esac
        done
        exec "$@" """,
    "hostname": 'case $1 in --ip-address) echo "fe80::1 127.0.1.1" ;; *) echo "10.0.0.7 192.168.0.7 fe80::1" ;; esac',
    "ray": """
        echo "$MACHINE ray $*" >> "$CALLS"
        case $1 in
            start) echo "$$" >> "$HERE/alive"; stat -c %a "$RAY_AUTH_TOKEN_PATH" >> "$HERE/modes"
                   mkdir -p "$TUNDISH_RAY_TEMP/tundish-$SLURM_JOB_ID"; exec sleep 300 ;;
            list) echo "[$(sed 's/.*/{"node_id": "&", "state": "ALIVE"}/' "$HERE/alive" | paste -sd,)]" ;;
        esac""",
    "tundish": 'echo "$MACHINE tundish $*" >> "$CALLS"; eval "$TUNDISH_DOES"',
}


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The allocation, and the stand-ins on the PATH."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, body in STAND_INS.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)
    (folder / "activate").write_text("")
    (folder / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    (folder / ".venv" / "bin" / "activate").write_text("ACTIVATED=yes\n")
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HERE": str(folder),
        "CALLS": str(folder / "calls"),
        "TUNDISH_RAY_TEMP": str(folder / "temp"),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "n[1-3]",
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_CPUS_PER_TASK": "16",
        "SLURM_GPUS_ON_NODE": "4",
        **more,
    }


def called(folder: Path, line: str, **more: str) -> str:
    """What a line of shell prints after the script's functions were read."""
    script = f"source {shlex.quote(str(SCRIPT))}; {line}"
    told = subprocess.run(["bash", "-c", script], env=environment(folder, **more), capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()


def begun(folder: Path, does: str, *words: str, script: Path = SCRIPT) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["bash", str(script), *(words or ("recipe.yaml", "/shared/root", "--until", "Corpus"))],
        env=environment(folder, TUNDISH_DOES=does), cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def running(pid: int) -> bool:
    """Whether a process lives and is no zombie."""
    said = Path(f"/proc/{pid}/cmdline")
    return said.exists() and bool(said.read_bytes())


def ended(folder: Path) -> bool:
    """Whether every Ray that was started is gone, and what was made for it."""
    alive = [int(pid) for pid in (folder / "alive").read_text().split()]
    return (
        not any(running(pid) for pid in alive)
        and not list(folder.glob(".tundish-*.token"))
        and not list((folder / "temp").iterdir())
    )


def test_it_is_bash_and_what_slurm_reads_stands_at_its_head() -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPT)], capture_output=True).returncode == 0
    lines = SCRIPT.read_text().split("\n")
    asked = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    assert asked
    assert max(asked) < min(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    code = [line for line in lines if not line.lstrip().startswith("#")]
    assert not [line for line in code if "ray stop" in line or "pkill" in line or "killall" in line]


def test_two_jobs_have_ports_of_their_own(tmp_path: Path) -> None:
    ports: Mapping[str, set[int]] = {
        job: {int(called(tmp_path, f"port {n}", SLURM_JOB_ID=job)) for n in range(4)}
        for job in ("4711", "4712", "9999999")
    }
    assert sum(map(len, ports.values())) == 12 == len(set().union(*ports.values()))
    assert all(20000 <= port < 32768 for some in ports.values() for port in some)


def test_the_address_of_the_head_is_one_that_others_reach(tmp_path: Path) -> None:
    assert called(tmp_path, "address n1") == "10.0.0.7"


def test_the_folder_is_short_enough_for_a_socket_of_ray(tmp_path: Path) -> None:
    path = called(tmp_path, "folder", TUNDISH_RAY_TEMP="", SLURM_JOB_ID="99999999")
    inside = "/session_2026-11-22_12-00-00_000000_1234567/sockets/plasma_store.1"
    assert path.startswith("/tmp/")
    assert len(path + inside) < 107


def test_what_a_machine_has_is_what_slurm_gave(tmp_path: Path) -> None:
    assert called(tmp_path, "share") == "--num-cpus=16 --num-gpus=4"
    assert called(tmp_path, "unset SLURM_GPUS_ON_NODE; share") == "--num-cpus=16 --num-gpus=0"


def test_a_run_ends_as_its_recipe_does_and_leaves_nothing_behind(tmp_path: Path) -> None:
    script = begun(tmp_path, "exit 3")
    out, err = script.communicate(timeout=30)
    assert script.returncode == 3, err
    assert ended(tmp_path)
    calls = (tmp_path / "calls").read_text().split("\n")
    starts = [line for line in calls if " ray start " in line]
    assert starts[0].startswith("n1 ray start --head")
    assert sorted(line.split()[0] for line in starts) == ["n1", "n2", "n3"]
    port = called(tmp_path, "port 0")
    assert all(f"--address=10.0.0.7:{port}" in line for line in starts[1:])
    assert f"--node-ip-address=10.0.0.7 --port={port} " in starts[0]
    assert "--dashboard-host=127.0.0.1" in starts[0]
    (run,) = [line for line in calls if " tundish " in line]
    assert run == f"n1 tundish run recipe.yaml --root /shared/root --on 10.0.0.7:{port} --until Corpus"
    assert set((tmp_path / "modes").read_text().split()) == {"600"}
    assert "head n1 at 10.0.0.7" in out
    for line in calls:
        if " ray list " in line:
            assert ray_list.make_context("list", line.split()[3:]).params["limit"] >= 1000
    known = {option for parameter in start.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.partition("=")[0] for line in starts for word in line.split() if word.startswith("--")} <= known


def test_what_slurm_ends_takes_its_rays_along(tmp_path: Path) -> None:
    script = begun(tmp_path, 'echo ready >> "$HERE/ready"; exec sleep 300')
    until = time.monotonic() + 60
    while not (tmp_path / "ready").exists() and time.monotonic() < until:
        time.sleep(0.05)
    script.send_signal(signal.SIGTERM)
    script.communicate(timeout=30)
    assert script.returncode == 143
    assert ended(tmp_path)


def test_a_training_saves_before_its_rays_are_ended(tmp_path: Path) -> None:
    saves = "for n in $(seq 20); do sleep 0.1; done; kill -0 $(cat $HERE/alive) && echo saved >> $HERE/saved; exit 130"
    script = begun(tmp_path, f"trap '{saves}' TERM; echo ready >> \"$HERE/ready\"; while true; do sleep 0.1; done")
    until = time.monotonic() + 60
    while not (tmp_path / "ready").exists() and time.monotonic() < until:
        time.sleep(0.05)
    script.send_signal(signal.SIGTERM)
    _, err = script.communicate(timeout=30)
    assert script.returncode == 143, err
    assert (tmp_path / "saved").read_text() == "saved\n", err
    assert ended(tmp_path)


def test_a_recipe_that_does_not_end_is_waited_for_so_long(tmp_path: Path) -> None:
    body = SCRIPT.read_text()
    (tmp_path / "slurm.sh").write_text(body.replace("\nSAVES=240 ", "\nSAVES=1 "))
    assert (tmp_path / "slurm.sh").read_text() != body
    deaf = "echo $$ > $HERE/deaf; trap '' TERM; echo ready >> $HERE/ready; while true; do sleep 0.1; done"
    script = begun(tmp_path, deaf, script=tmp_path / "slurm.sh")
    until = time.monotonic() + 60
    while not (tmp_path / "ready").exists() and time.monotonic() < until:
        time.sleep(0.05)
    script.send_signal(signal.SIGTERM)
    alive = [int(pid) for pid in (tmp_path / "alive").read_text().split()]
    until = time.monotonic() + 30
    while any(running(pid) for pid in alive) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(running(pid) for pid in alive), "its Rays are ended without it"
    os.kill(int((tmp_path / "deaf").read_text()), signal.SIGKILL)  # as Slurm does at the limit
    script.communicate(timeout=30)
    assert script.returncode == 143


def test_a_head_that_ends_at_once_is_said(tmp_path: Path) -> None:
    programs = environment(tmp_path, TUNDISH_DOES="exit 0")
    (tmp_path / "bin" / "ray").write_text('#!/bin/bash\n[[ $1 == start ]] && echo "$$" >> "$HERE/alive"\nexit 1\n')
    (tmp_path / "temp").mkdir()
    told = subprocess.run(
        ["bash", str(SCRIPT), "a.yaml", "/r"], env=programs, capture_output=True, text=True, timeout=30
    )
    assert told.returncode == 1
    assert "the head on n1 did not come up" in told.stderr
    assert ended(tmp_path)
    assert not (tmp_path / "calls").read_text().count("tundish")


def test_less_than_a_recipe_and_a_root_is_refused(tmp_path: Path) -> None:
    script = begun(tmp_path, "exit 0", "recipe.yaml")
    _, err = script.communicate(timeout=30)
    assert script.returncode == 2
    assert "give a recipe and a root" in err
