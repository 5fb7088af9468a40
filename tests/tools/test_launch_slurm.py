"""tools/launch_slurm.sh, with replacements for SLURM's commands."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def command(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("status", [0, 2])
def test_job_starts_torchrun_on_every_node_with_all_processors(tmp_path, status):
    command(tmp_path / "scontrol", "echo node7; echo node8")
    command(tmp_path / "srun", f'printf "%s\\n" "$@" > {tmp_path}/words; exit {status}')
    job = {
        "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "41234", "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "64",
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "WEFT_PYTHON": "python",
    }  # fmt: skip
    script = ["bash", ROOT / "tools" / "launch_slurm.sh", "detector", "--data-path", "a folder"]
    assert subprocess.run(script, env=job).returncode == status
    words = (tmp_path / "words").read_text().splitlines()
    options, (torchrun, *flags) = words[: words.index("python")], words[words.index("-m") + 1 :]
    assert options == ["--cpus-per-task=64", "--kill-on-bad-exit=1"]
    assert torchrun == "torch.distributed.run"
    assert {"--nnodes=2", "--nproc_per_node=8", "--rdzv_endpoint=node7:21234"} <= {*flags}
    assert flags[flags.index("train.py") :] == ["train.py", "detector", "--data-path", "a folder"]
