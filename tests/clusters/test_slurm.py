"""clusters/slurm.sh under stubs of Slurm and Ray that log what they are called with."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "clusters" / "slurm.sh"
JOB = 4711
STUBS = {
    "scontrol": 'echo "scontrol $*" >> $LOG; printf "n01\\nn02\\nn03\\n"',
    # options of srun end at the first word without a dash
    "srun": 'echo "srun $*" >> $LOG; while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"',
    "ray": """
case "$1" in
start) test -z "$BROKEN" || exit 3
       test "$2" = --head || sleep "${LATE:-0}"
       echo "token $(cat $RAY_AUTH_TOKEN_PATH)" >> $LOG
       echo "mode $RAY_AUTH_MODE $(stat -c %a $RAY_AUTH_TOKEN_PATH)" >> $LOG
       trap "echo stopped >> $LOG; exit 0" TERM; while :; do sleep 0.1; done ;;
health-check) test -z "$BROKEN" ;;
status) echo asked >> $LOG.asked
        n=$(grep -c ^token $LOG) # as many as have started; at most JOINING are let in
        n=$((n > ${JOINING:-3} ? ${JOINING:-3} : n))
        for i in $(seq $n); do echo " 1 node_00000$i"; done ;;
esac
""",
    "job": 'echo "job $RAY_ADDRESS $*" >> $LOG; exec "${@:2}"',
}


@pytest.fixture
def cluster(tmp_path):
    for name, body in STUBS.items():
        stub = tmp_path / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f"#!/bin/bash\n{body}\n")
        stub.chmod(0o755)
    return {
        **os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "HOME": str(tmp_path),
        "LOG": str(tmp_path / "log"), "SLURM_JOB_ID": str(JOB), "SLURM_CPUS_PER_TASK": "16",
        "SLURM_JOB_NODELIST": "n[01-03]", "SLURM_JOB_NUM_NODES": "3", "RAY_AUTH_TOKEN": "another",
    }  # fmt: skip


def start(cluster: dict[str, str], *command: str) -> subprocess.Popen:
    words = ["bash", str(SCRIPT), "job", "storage=/shared/runs", *command]
    return subprocess.Popen(
        words, env=cluster, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def log(cluster: dict[str, str]) -> list[str]:
    path = Path(cluster["LOG"])
    return path.read_text().splitlines() if path.exists() else []


def test_the_script_is_bash():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)


def test_the_head_is_on_the_first_node_and_a_worker_on_every_other(cluster):
    run = start(cluster, "true")
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 0, said
    steps = [line for line in log(cluster) if line.startswith("srun")]
    # steps are started in turn, but each logs itself: on a busy machine not in that order
    head, *workers = sorted(steps, key=lambda step: "--head" not in step)
    assert "--nodelist=n01 ray start --head --block" in head
    assert "--include-dashboard=false" in head
    (job,) = [line.split() for line in log(cluster) if line.startswith("job")]
    address = job[1]
    assert address.endswith(f":{20000 + JOB}")
    assert sorted(line.split("--nodelist=")[1].split()[0] for line in workers) == ["n02", "n03"]
    assert all(f"ray start --block --address={address}" in line for line in workers)
    assert all("--nodes=1 --ntasks=1" in line for line in steps)


def test_the_run_waits_for_every_node(cluster):
    assert start({**cluster, "LATE": "2"}, "true").wait(60) == 0
    lines = log(cluster)
    (job,) = [number for number, line in enumerate(lines) if line.startswith("job")]
    assert len([line for line in lines[:job] if line.startswith("token")]) == 3
    assert len(Path(cluster["LOG"] + ".asked").read_text().splitlines()) >= 2


def test_a_node_that_never_joins_ends_the_job(cluster):
    run = start({**cluster, "JOINING": "2", "RAYDD_START_SECONDS": "1"}, "true")
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "one of 3 nodes did not come up" in said
    assert not [line for line in log(cluster) if line.startswith("job")]
    assert log(cluster).count("stopped") == 3


def test_a_head_that_ends_at_once_is_not_waited_for(cluster):
    run = start({**cluster, "BROKEN": "1"}, "true")
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "the head did not come up" in said


def test_every_job_has_a_token_of_its_own_that_nobody_sees(cluster):
    tokens = []
    for _ in range(2):
        run = start(cluster, "true")
        said, _ = run.communicate(timeout=60)
        lines = log(cluster)
        (token,) = {line.split()[1] for line in lines if line.startswith("token")}
        assert len(token) == 64
        assert {line for line in lines if line.startswith("mode")} == {"mode token 600"}
        assert token not in said
        assert not [line for line in lines if token in line and not line.startswith("token")]
        assert not list((Path(cluster["HOME"]) / ".ray").iterdir()), "the file is left behind"
        tokens.append(token)
        Path(cluster["LOG"]).unlink()
    assert tokens[0] != tokens[1]


def test_ray_is_stopped_when_the_run_fails(cluster):
    run = start(cluster, "bash", "-c", "exit 7")
    assert run.wait(60) == 7
    assert log(cluster).count("stopped") == 3


def test_ray_is_stopped_when_slurm_ends_the_job(cluster):
    run = start(cluster, "sleep", "60")
    deadline = time.monotonic() + 60
    while not any(line.startswith("job") for line in log(cluster)):
        assert time.monotonic() < deadline, log(cluster)
        time.sleep(0.1)
    run.send_signal(signal.SIGTERM)
    assert run.wait(20) == 143
    assert log(cluster).count("stopped") == 3


@pytest.mark.parametrize("storage", ["storage=runs", "seed=1"])
def test_a_storage_that_workers_cannot_see_is_refused(cluster, storage):
    done = subprocess.run(
        ["bash", str(SCRIPT), "job", storage], env=cluster, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "storage=PATH, absolute" in done.stderr
    assert log(cluster) == []
