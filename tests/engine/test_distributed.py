"""Ranks: shards, gathering, and the errors of a broken launch."""

import os

import pytest
import torch

from engine import distributed
from engine.errors import InputError
from tests.ranks import run_ranks


def collectives(count: int) -> tuple:
    own = list(distributed.shard(count))
    gathered = distributed.gather_objects(own)
    told = distributed.broadcast_object({"from": distributed.rank()})
    total = distributed.sum_over_ranks(torch.tensor([float(len(own))]))
    with distributed.first_on_each_machine():
        pass
    return own, gathered, told, total.item()


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("count", [0, 1, 7, 31])
def test_shards_cover_everything_once_in_order(world_size: int, count: int) -> None:
    answers = run_ranks(world_size, collectives, count)
    shards = [answer[0] for answer in answers]
    assert [i for own in shards for i in own] == list(range(count))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert answers[0][1] == shards
    assert all(answer[1] is None for answer in answers[1:])
    assert all(answer[2] == {"from": 0} for answer in answers)
    assert all(answer[3] == count for answer in answers)


def test_functions_work_without_a_process_group() -> None:
    assert collectives(5) == ([0, 1, 2, 3, 4], [[0, 1, 2, 3, 4]], {"from": 0}, 5.0)
    assert distributed.is_main()
    distributed.barrier()
    distributed.shutdown()


def asked(trouble: str | None) -> tuple:
    def work() -> tuple:
        if trouble:
            raise InputError(trouble)
        return lambda: "cannot travel", distributed.rank()

    try:
        own, shared = distributed.on_main(work)
    except InputError as error:
        return str(error)
    return own and own(), shared


@pytest.mark.parametrize("world_size", [1, 3])
def test_all_ranks_get_the_result_or_error_of_rank_0(world_size: int) -> None:
    answers = run_ranks(world_size, asked, None)
    assert answers == [("cannot travel", 0), *[(None, 0)] * (world_size - 1)]
    assert run_ranks(world_size, asked, "no photo") == ["no photo"] * world_size


def test_half_set_environment_is_an_error_not_a_lone_run(monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="MASTER_ADDR"):
        distributed.init("cpu")


@pytest.mark.parametrize(
    ("count", "rank", "slurm", "torchrun", "expected"),
    [
        (8, 3, False, True, 3),
        (1, 3, True, False, 0),  # srun --gpus-per-task=1
        (8, 3, True, False, 3),
        (1, 1, True, True, None),  # two of torchrun's processes cannot share the task's one
        (1, 1, False, False, None),
    ],
)
def test_every_process_takes_its_own_gpu(
    monkeypatch, count: int, rank: int, slurm: bool, torchrun: bool, expected: int | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    variables = {"SLURM_GPUS_PER_TASK": slurm, "TORCHELASTIC_RUN_ID": torchrun}
    for name, present in variables.items():
        monkeypatch.setenv(name, "1") if present else monkeypatch.delenv(name, raising=False)
    if expected is None:
        with pytest.raises(InputError, match=r"local rank 1 has no GPU: this node has 1"):
            distributed._choose_device("auto")
    else:
        assert distributed._choose_device("auto") == torch.device("cuda", expected)


def test_cuda_without_a_gpu_is_an_error(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no GPU"):
        distributed.init("cuda")
    assert distributed.init("auto") == torch.device("cpu")


def test_srun_variables_become_torchrun_variables(monkeypatch) -> None:
    slurm = {
        "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
        "SLURM_STEP_NODELIST": "node[7-8]", "SLURM_JOB_ID": "41234",
    }  # fmt: skip
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    for name in distributed.TORCHRUN_VARIABLES:
        monkeypatch.setenv(name, "set so that monkeypatch removes it afterwards")
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "")  # in a container, say
    with pytest.raises(InputError, match=r"scontrol .* node\[7-8\]"):
        distributed.init("cpu")

    class Answer:
        stdout = "node7\nnode8\n"

    monkeypatch.setattr(distributed.subprocess, "run", lambda *args, **kwargs: Answer)
    distributed._adopt_slurm_variables()
    adopted = {name: os.environ[name] for name in distributed.TORCHRUN_VARIABLES}
    assert adopted == {
        "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4",
        "MASTER_ADDR": "node7", "MASTER_PORT": "21234",
    }  # fmt: skip
    for name in distributed.TORCHRUN_VARIABLES:
        monkeypatch.delenv(name)


def test_control_characters_in_warnings_are_escaped(capsys) -> None:
    distributed.configure_logging().warning("left out: %s", "\x1b[2Jred\n.jpg")
    assert capsys.readouterr().err == "left out: ?[2Jred?.jpg\n"
