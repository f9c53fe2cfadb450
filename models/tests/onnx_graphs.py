"""The graphs of a filled package in ONNX Runtime on the CPU, at fixed sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort

from matte_models import manifest


def sessions(package: Path, size: tuple[int, int], slots: int = 5, provide: Callable | None = None):
    """``{name: call}`` with sizes fixed by free-dimension overrides; ``size`` is the padded height and width.

    ``provide`` chooses what runs them in the session's options; without it that is the CPU.
    """
    h, w = size[0] // 16, size[1] // 16
    dims = {"H": size[0], "W": size[1], "h": h, "w": w, "hw": h * w, "N": slots * h * w}

    def open_graph(name: str, graph: dict):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 2
        options.log_severity_level = 3
        for dim, value in dims.items():
            options.add_free_dimension_override_by_name(dim, value)
        if provide:
            provide(options)
        providers = None if provide else ["CPUExecutionProvider"]
        session = ort.InferenceSession(package / graph["file"], options, providers=providers)
        for port, declared in zip(session.get_inputs(), graph["inputs"], strict=True):
            assert port.name == declared["name"]
            assert port.shape == [dims.get(d, d) for d in declared["shape"]], port.name
        names = [o["name"] for o in graph["outputs"]]

        def call(**inputs: np.ndarray) -> dict[str, np.ndarray]:
            return dict(zip(names, session.run(names, {k: np.asarray(v) for k, v in inputs.items()}), strict=True))

        return call

    return {name: open_graph(name, graph) for name, graph in manifest.load(package)["graphs"].items()}
