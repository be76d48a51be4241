"""The calibration file: what is written is read back, and nothing else is taken for one."""

import json
from pathlib import Path
from typing import Any

import pytest

from scheduler.calibration import Calibration, CalibrationError, Measurement
from scheduler.learning import Observation
from scheduler.states import Source

CALIBRATION = Calibration(
    gpu_kind="NVIDIA H100 80GB HBM3",
    model="ali-vilab/i2vgen-xl",
    fingerprint="abc",
    measured_at=1_800_000_000.0,
    software={"torch": "2.13.0"},
    measurements=(
        Measurement(plan="fp16", shape="512x512x16", working_peak_bytes=3 * 2**30, step_seconds=0.1, fixed_seconds=2.0),
        Measurement(plan="fp16-chunked", shape="512x512x16,unguided", working_peak_bytes=2**30),
    ),
)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text("an older one")

    CALIBRATION.write(path)

    assert Calibration.read(path) == CALIBRATION
    assert [file.name for file in tmp_path.iterdir()] == ["calibration.json"]
    assert json.loads(path.read_text())["format"] == 1


def test_its_measurements_are_observations() -> None:
    whole, chunked = CALIBRATION.observations()

    assert whole == Observation(
        Source.CALIBRATION, CALIBRATION.gpu_kind, CALIBRATION.model, "fp16", "512x512x16", 3 * 2**30, 0.1, 2.0
    )
    assert (chunked.shape_key, chunked.step_seconds) == ("512x512x16,unguided", None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format"),
        ({"gpu_kind": ""}, "gpu_kind"),
        ({"measurements": []}, "measurements"),
        ({"surprise": 1}, "surprise"),
        ({"measured_at": -1}, "measured_at"),
    ],
)
def test_another_format_or_a_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(CALIBRATION.model_dump(mode="json") | change))

    with pytest.raises(CalibrationError, match=rf"calibration\.json is no calibration of format 1: {said}") as refused:
        Calibration.read(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plan": "fp4"}, "must be one of fp32"),
        ({"shape": "512"}, "shape"),
        ({"shape": "0512x512x16"}, "must be a shape such as"),
        ({"working_peak_bytes": -1}, "greater than 0"),
        ({"working_peak_bytes": 2**60}, "less than"),
        ({"step_seconds": None}, "go together"),
        ({"working_peak_bytes": None, "step_seconds": None, "fixed_seconds": None}, "neither bytes nor seconds"),
        ({"step_seconds": float("inf")}, "finite|less than"),
    ],
)
def test_a_wrong_measurement_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    content = CALIBRATION.model_dump(mode="json")
    content["measurements"][0] |= change
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(content))

    with pytest.raises(CalibrationError, match=said):
        Calibration.read(path)


def test_no_file_or_no_json_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"cannot read the calibration .*No such file"):
        Calibration.read(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(CalibrationError, match="is no calibration"):
        Calibration.read(tmp_path / "text.json")
