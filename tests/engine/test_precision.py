"""Half precision on CPUs with and without instructions for it."""

import logging
from types import SimpleNamespace

import pytest
import torch

from engine.precision import autocast, warn_if_emulated

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _nothing_was_said():
    warn_if_emulated.cache_clear()
    yield
    warn_if_emulated.cache_clear()


def pretend(monkeypatch, supported: bool | None) -> None:
    """A CPU with or without the instructions; None: PyTorch without oneDNN, as on a Mac."""
    operations = SimpleNamespace()
    for name in ("bf16", "fp16"):
        if supported is not None:
            setattr(operations, f"_is_mkldnn_{name}_supported", lambda: supported)
    monkeypatch.setattr(torch.ops, "mkldnn", operations)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_products_are_computed_in_the_precision(precision, dtype):
    ones = torch.ones(3, 3)
    with autocast(CPU, precision):
        assert (ones @ ones).dtype is dtype


@pytest.mark.parametrize("supported", [False, None])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_cpu_that_emulates_the_precision_is_told_once(monkeypatch, caplog, precision, supported):
    pretend(monkeypatch, supported)
    with caplog.at_level(logging.WARNING, logger="weft"):
        autocast(CPU, precision)
        autocast(CPU, precision)
        autocast(CPU, "fp32")
    (message,) = caplog.messages
    assert message.startswith(f"--precision {precision}: this CPU has no instructions for it")


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_a_cpu_with_instructions_for_it_and_other_devices_are_not_warned_of(monkeypatch, caplog):
    pretend(monkeypatch, supported=True)
    autocast(CPU, "bf16")
    pretend(monkeypatch, supported=False)
    autocast(torch.device("cuda"), "bf16")
    assert not caplog.messages


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
def test_this_cpu_is_asked():
    """The questions exist in this PyTorch and answer yes or no."""
    assert torch.ops.mkldnn._is_mkldnn_bf16_supported() in (True, False)
    assert torch.ops.mkldnn._is_mkldnn_fp16_supported() in (True, False)
