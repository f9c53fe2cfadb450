"""The graphs of a filled package in ONNX Runtime on the CPU, at fixed sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort

from matte_models import manifest


def sessions(package: Path, size: tuple[int, int], slots: int = 5, provide: Callable | None = None,
             threads: int = 2, int8: bool = False):
    """``{name: call}`` with sizes fixed by free-dimension overrides; ``size`` is the padded height and width.

    ``provide`` chooses what runs them in the session's options; without it that is the CPU. ``int8`` takes the twins in
    8-bit integers, where the package has them.
    """
    h, w = size[0] // 16, size[1] // 16
    dims = {"H": size[0], "W": size[1], "h": h, "w": w, "hw": h * w, "N": slots * h * w}

    def open_graph(name: str, graph: dict):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # As the engine does; products with denormal weights are many times slower.
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        for dim, value in dims.items():
            options.add_free_dimension_override_by_name(dim, value)
        if provide:
            provide(options)
        providers = None if provide else ["CPUExecutionProvider"]
        file = graph.get("int8", graph["file"]) if int8 else graph["file"]
        session = ort.InferenceSession(package / file, options, providers=providers)
        for port, declared in zip(session.get_inputs(), graph["inputs"], strict=True):
            shape = [dims.get(d, d) for d in declared["shape"]]
            if port.name != declared["name"] or port.shape != shape:
                raise ValueError(f"{file}: input {port.name} {port.shape}, but the manifest makes it "
                                 f"{declared['name']} {shape}")
        names = [o["name"] for o in graph["outputs"]]

        def call(**inputs: np.ndarray) -> dict[str, np.ndarray]:
            return dict(zip(names, session.run(names, {k: np.asarray(v) for k, v in inputs.items()}), strict=True))

        return call

    return {name: open_graph(name, graph) for name, graph in manifest.load(package)["graphs"].items()}
