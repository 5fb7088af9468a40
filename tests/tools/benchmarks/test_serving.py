"""The server's benchmark: a real server, every row measured, bad requests counted."""

import argparse

import cv2
import numpy as np

from tools.benchmarks import serving


def test_small_run_reports_all_figures(capsys) -> None:
    parser = argparse.ArgumentParser()
    serving.add_arguments(parser)
    flags = "--items 300 --clients 1,3 --requests 12 --photos 2 --soak 20"
    results = serving.run(parser.parse_args([*flags.split(), "--malformed", "30"]))
    cases = {row["case"]: row for row in results["rows"]}
    assert list(cases) == ["search, 1 client", "search, 3 clients", "photo, 1 client"]
    assert all(row["failed"] == 0 and row["p95_ms"] >= row["p50_ms"] for row in cases.values())
    assert sum(results["malformed_statuses"].values()) == 30
    assert all(s.startswith("4") or s == "503" for s in results["malformed_statuses"])
    assert "409" not in results["malformed_statuses"]  # the photos among them were looked at
    assert len(results["memory_mib"]) == 3
    serving.show(results | {"machine": {"processor": "x", "cores": 2, "load": 1}})
    assert "search, 3 clients" in capsys.readouterr().out


def test_load_uses_a_real_photo_and_both_networks() -> None:
    """A real photo, not noise, goes through both networks."""
    assert "none" not in serving.model_flags("detector.pt")
    _, path, photo, _ = serving.photo_request()
    pixels = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert path == "/api/detect" and min(pixels.shape) >= 500
