"""The big network on OpenVINO against the published numbers, in float32 and in bfloat16 (extra ``openvino``)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from driver import Case, errors
from matte_models.sessions import sessions

from matte_models import fill, manifest
from matte_models.driver import Driver

NAME = "OpenVINOExecutionProvider"
PACKAGE = Path(__file__).parent.parent / "packages" / "matanyone2"


@pytest.fixture(scope="module")
def devices():
    plugin = pytest.importorskip("onnxruntime_ep_openvino")
    library = Path(plugin.__file__).parent / "libonnxruntime_providers_openvino_plugin.so"
    ort.register_execution_provider_library("openvino", str(library))
    found = [d for d in ort.get_ep_devices() if d.ep_name == NAME and d.device.type == ort.OrtHardwareDeviceType.CPU]
    if not found:
        pytest.skip("OpenVINO does not take this processor")
    return found


@pytest.mark.parametrize("name", ["b_fullsoftmax", "h_mini112x80"])
@pytest.mark.parametrize(("precision", "most"), [("f32", 1e-4), ("bf16", 2e-2)])
def test_alpha(shared, devices, tmp_path, name, precision, most):
    if precision == "bf16" and "avx512_bf16" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no bfloat16")
    fill.fill(PACKAGE, tmp_path / "filled", fill.rule_weights(manifest.load(PACKAGE)))
    case = Case.open(shared / "golden" / f"{name}.safetensors")
    height, width = case.frames.shape[1:3]

    def provide(options: ort.SessionOptions) -> None:
        config = {"CPU": {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": "2"}}
        options.add_provider_for_devices(devices, {"load_config": json.dumps(config)})

    error = errors(case, Driver(sessions(tmp_path / "filled", (height, width), provide=provide), (height, width)))
    print(f"{name}, {precision}: alpha differs by {error.max():.1e} at most, {error.mean():.1e} on average")
    assert np.isfinite(error).all()
    assert error.mean() < most
