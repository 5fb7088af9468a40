"""Aspect vectors of a run: stored as text in the journal and written as one .npz at the end.

    with np.load("features.npz") as file:
        file["photo"], file["number"]     # the garment of each row, as in garments.json
        file["color"]                     # float16 [N, 64], unit length; likewise the other aspects

The file is written in constant memory: rows are collected in one temporary raw file per array.
"""

import base64
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from engine.files import replacing
from engine.outputs.journal import Record

Encoded = dict[str, str]


def encode(vectors: Mapping[str, np.ndarray]) -> Encoded:
    """Aspect -> its vector as base64 of little-endian float16."""
    return {
        aspect: base64.b64encode(vector.astype("<f2").tobytes()).decode()
        for aspect, vector in vectors.items()
    }


def decode(encoded: Encoded) -> dict[str, np.ndarray]:
    """The inverse of ``encode``: aspect -> float16 [d]."""
    return {
        aspect: np.frombuffer(base64.b64decode(text), "<f2") for aspect, text in encoded.items()
    }


class FeatureFile:
    """Writes features.npz garment by garment.

    Args:
        path: of the file, which is created by ``close``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self.numbers: list[int] = []
        self.raw: dict[str, IO[bytes]] = {}
        self.sizes: dict[str, int] = {}

    def add(self, record: Record) -> None:
        """Add a photo's garments; removes the vectors from its record."""
        for garment in record["garments"]:
            self.names.append(record["photo"])
            self.numbers.append(garment["number"])
            for aspect, vector in decode(garment.pop("vectors")).items():
                if aspect not in self.raw:
                    self.raw[aspect] = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115
                    self.sizes[aspect] = len(vector)
                self.raw[aspect].write(vector.tobytes())

    def close(self) -> None:
        """Write the file."""
        with replacing(self.path) as file, zipfile.ZipFile(file, "w") as archive:
            self._array(archive, "photo", np.array(self.names, dtype=np.str_))
            self._array(archive, "number", np.array(self.numbers, dtype=np.int32))
            for aspect, raw in self.raw.items():
                self._rows(archive, aspect, raw)

    def _array(self, archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, array, allow_pickle=False)

    def _rows(self, archive: zipfile.ZipFile, aspect: str, raw: IO[bytes]) -> None:
        shape = (len(self.numbers), self.sizes[aspect])
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        with archive.open(f"{aspect}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            raw.seek(0)
            while block := raw.read(1 << 20):
                member.write(block)
        raw.close()
