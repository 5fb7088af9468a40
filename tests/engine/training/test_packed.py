"""Batches in one block of memory: the same batch comes out, with and without shared memory."""

import pickle

import pytest
import torch

from engine.training.packed import PackedBatch, map_nested


def batch() -> tuple:
    """Photos of prime sizes, one channels-last as decoders give it, with targets of many types."""
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(3, 5, 7, generator=generator)
    upright = torch.rand(11, 13, 3, generator=generator).permute(2, 0, 1)
    boxes = torch.rand(2, 4, generator=generator)
    targets = [
        {"boxes": boxes, "labels": torch.tensor([3, 5]), "masks": torch.ones(2, 5, 7) > 0},
        {"boxes": torch.zeros(0, 4), "image_id": torch.tensor(17), "name": "a photo.jpg"},
    ]
    return [photo, upright], targets, torch.arange(3, dtype=torch.uint8), None


def assert_same(found: tuple, expected: tuple) -> None:
    """Equal values, dtypes, and order in memory."""
    seen, meant = [], []
    assert map_nested(found, torch.Tensor, seen.append) == map_nested(
        expected, torch.Tensor, meant.append
    )
    for one, other in zip(seen, meant, strict=True):
        assert (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
        assert torch.equal(one, other)


def sent(packed: PackedBatch) -> PackedBatch:
    return pickle.loads(pickle.dumps(packed))


def test_a_packed_batch_is_the_same_batch():
    assert_same(PackedBatch(batch()).unpack(), batch())


def test_it_is_sent_in_shared_memory():
    packed = PackedBatch(batch())
    received = sent(packed)
    assert not received.copied
    packed.unpack()[0][0].fill_(7.0)
    assert received.unpack()[0][0].eq(7.0).all(), "the same memory"


@pytest.mark.parametrize("since", ["start", "sending"])
def test_without_shared_memory_a_copy_is_sent(monkeypatch, since):
    def refuse(*_):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>")

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", refuse)
    if since == "start":
        monkeypatch.setattr(torch.UntypedStorage, "_new_shared", refuse)
    received = sent(PackedBatch(batch()))
    assert received.copied
    assert_same(received.unpack(), batch())


def test_tensors_can_be_changed_in_place_without_touching_each_other():
    changed, expected = PackedBatch(batch()).unpack(), batch()
    for photos, targets, *_ in (changed, expected):
        photos[0].zero_()
        targets[0]["labels"].fill_(1)
    assert_same(changed, expected)


def test_a_slice_is_packed_without_the_rest_of_its_tensor():
    large = torch.arange(1000)
    packed = PackedBatch((large[::100],))
    assert packed.size == 128, "ten int64, rounded up to cache lines"
    assert torch.equal(packed.unpack()[0], large[::100])


def test_an_empty_batch():
    assert PackedBatch(([], {})).unpack() == ([], {})


def test_pinning_moves_the_block(monkeypatch):
    """Pinned memory itself needs a GPU."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: pinned.append(t) or t.clone())
    packed = PackedBatch(batch())
    assert packed.pin_memory() is packed
    assert len(pinned) == 1
    assert_same(packed.unpack(), batch())
