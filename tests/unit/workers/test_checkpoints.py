"""Checkpoints: what goes in comes out, what is of another run says so, and no bytes do any harm."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as load_safetensors

from workers import checkpoints
from workers.checkpoints import CheckpointDamaged, CheckpointMismatch, CheckpointUnusable, Fingerprint
from workers.pipelines.i2vgen_xl import Snapshot
from workers.pipelines.request import GenerationRequest

SHAPE = (1, 4, 2, 3, 5)
REQUEST = GenerationRequest(
    prompt="waves on the sea",
    negative_prompt=None,
    width=40,
    height=24,
    num_frames=2,
    num_inference_steps=10,
    guidance_scale=9.0,
    target_fps=8,
    seed=7,
)


@dataclasses.dataclass
class OtherEnd:
    """What `load` asks of a run."""

    latents_shape: tuple[int, ...] = SHAPE
    steps: int = 10

    def is_resumable(self, step: int) -> bool:
        return step != 5


def fingerprint(plan: str = "fp32", model: str = "abc", **changes: Any) -> Fingerprint:
    return checkpoints.fingerprint(model, dataclasses.replace(REQUEST, **changes), plan)


def load(data: bytes, of: Fingerprint | None = None, run: OtherEnd | None = None) -> Snapshot:
    return checkpoints.load(data, of or fingerprint(), run or OtherEnd())  # type: ignore[arg-type]  # all it reads


def snapshot(step: int = 3, dtype: torch.dtype = torch.float32) -> Snapshot:
    values = torch.randn(SHAPE, generator=torch.Generator().manual_seed(step))
    return Snapshot(values.to(dtype), step)


GOOD = checkpoints.dump(snapshot(), fingerprint())
HEADER_END = 8 + int.from_bytes(GOOD[:8], "little")


def rewritten(**changes: Any) -> bytes:
    """GOOD with another header: `latents__shape=…` and `metadata__step=…` change one entry, None drops it."""
    header = json.loads(GOOD[8:HEADER_END])
    for path, value in changes.items():
        part, _, key = path.partition("__")
        section = header["__metadata__" if part == "metadata" else part]
        if value is None:
            del section[key]
        else:
            section[key] = value
    return framed(json.dumps(header).encode(), GOOD[HEADER_END:])


def framed(header: bytes, body: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + body


@pytest.mark.parametrize(("plan", "dtype"), [("fp32", torch.float32), ("fp16-chunked", torch.float16)])
@pytest.mark.parametrize("step", [1, 3, 10])
def test_a_snapshot_comes_back_bit_for_bit(plan: str, dtype: torch.dtype, step: int) -> None:
    saved = snapshot(step, dtype)
    data = checkpoints.dump(saved, fingerprint(plan))
    back = load(data, fingerprint(plan), OtherEnd())
    assert back.step == step
    assert back.latents.dtype == dtype
    assert torch.equal(back.latents, saved.latents)
    assert checkpoints.dump(back, fingerprint(plan)) == data


def test_it_is_a_safetensors_file() -> None:
    assert torch.equal(load_safetensors(GOOD)["latents"], snapshot().latents)


def test_latents_that_do_not_lie_in_order_are_saved_as_they_are_seen() -> None:
    turned = torch.arange(24.0).reshape(1, 4, 3, 2, 1).transpose(2, 3)
    data = checkpoints.dump(Snapshot(turned, 1), fingerprint())
    assert torch.equal(load(data, run=OtherEnd(latents_shape=(1, 4, 2, 3, 1))).latents, turned)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (fingerprint(model="xyz"), "model is 'abc', not 'xyz'"),
        (fingerprint("fp16"), "latents is 'float32', not 'float16'"),
        (fingerprint(seed=8), "seed is 7, not 8"),
        (fingerprint(num_inference_steps=11), "steps is 10, not 11"),
        (fingerprint(width=48), "shape is '40x24x2', not '48x24x2'"),
        (fingerprint(preset="fast"), "shape is '40x24x2', not '40x24x2,fast'"),
        (fingerprint(prompt="a desert"), "prompt is "),
        (fingerprint(negative_prompt="blurry"), "negative_prompt is "),
        (fingerprint(guidance_scale=8.5), "guidance_scale is 9.0, not 8.5"),
        (fingerprint(target_fps=9), "fps is 8, not 9"),
        (checkpoints.fingerprint("abc", REQUEST, "fp32", compiled=True), "compiled is False, not True"),
    ],
)
def test_another_run_is_named_by_what_differs(other: Fingerprint, named: str) -> None:
    with pytest.raises(CheckpointMismatch, match=r"^it is of another run: ") as caught:
        load(GOOD, other)
    assert named in str(caught.value)
    assert "waves" not in str(caught.value)


def test_plans_of_one_precision_go_on_from_each_other() -> None:
    assert fingerprint("fp16") == fingerprint("fp16-streamed") == fingerprint("int8") != fingerprint("fp32")
    assert fingerprint(guidance_scale=1.0) == fingerprint(guidance_scale=1.0, negative_prompt="not used")


def test_other_versions_of_the_libraries_do_not_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "version", lambda package: "0.0.1")
    data = checkpoints.dump(snapshot(), fingerprint())
    monkeypatch.undo()
    with pytest.raises(CheckpointMismatch, match=r"torch is '0.0.1', not '2"):
        load(data)


def test_a_fingerprint_is_text_of_64_hex_digits() -> None:
    made = fingerprint()
    assert isinstance(made, str)
    assert len(made) == 64
    assert int(made, 16) >= 0
    assert "waves" not in json.dumps(dict(made.fields))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 64,
        GOOD[:8],
        GOOD[:-1],
        GOOD[:HEADER_END],
        GOOD + b"\x00",
        framed(b"[]"),
        framed(b"{}"),
        framed(b"\xff{}"),
        framed(b"[" * 60_000),
        framed(b'{"__metadata__": {}, "latents": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
        framed(b'{"__metadata__": {"fingerprint": "x"}, "latents": {}}'),
        framed(b'{"__metadata__": {"fingerprint": "x", "fields": "[]"}, "latents": {}}'),
        framed(b" " * 100_000),
        rewritten(latents__dtype="F64"),
        rewritten(latents__dtype="F16"),
        rewritten(latents__shape=[1, 4, 2, 5, 3]),
        rewritten(latents__shape=[2**60, 2**60]),
        rewritten(latents__shape=[True, 4, 2, 3, 5.5]),
        rewritten(latents__data_offsets=[0, 2**63]),
        rewritten(latents__data_offsets=None),
        rewritten(metadata__step=None),
        rewritten(metadata__step="-1"),
        rewritten(metadata__step="0"),
        rewritten(metadata__step="11"),
        rewritten(metadata__step=3),
        rewritten(metadata__step="5"),
        rewritten(metadata__sha256=None),
        GOOD[:HEADER_END] + bytes(len(GOOD) - HEADER_END),
        checkpoints.dump(Snapshot(torch.full(SHAPE, torch.nan), 3), fingerprint()),
        checkpoints.dump(Snapshot(torch.full(SHAPE, -torch.inf), 3), fingerprint()),
        checkpoints.dump(Snapshot(torch.zeros(1, 4, 2, 3, 4), 3), fingerprint()),
        checkpoints.dump(snapshot(dtype=torch.float16), fingerprint()),
    ],
)
def test_what_is_not_a_whole_checkpoint_is_damaged(data: bytes) -> None:
    with pytest.raises(CheckpointDamaged) as caught:
        load(data)
    assert len(str(caught.value)) < 500


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_change_of_the_bytes_gives_other_latents_or_another_error(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(start, min(len(GOOD), start + 16)))
    changed = GOOD[:start] + data.draw(st.binary(max_size=16)) + GOOD[end:]
    try:
        back = load(changed)
    except CheckpointUnusable:
        return
    assert torch.equal(back.latents, snapshot().latents)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    metadata=JSON | st.dictionaries(st.sampled_from(["fingerprint", "fields", "step", "sha256"]), JSON),
    latents=JSON | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets"]), JSON),
    body=st.binary(max_size=64),
)
def test_any_header_is_refused(metadata: object, latents: object, body: bytes) -> None:
    header = json.dumps({"__metadata__": metadata, "latents": latents}).encode()
    with pytest.raises(CheckpointUnusable):
        load(framed(header, body))


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_any_fields_are_refused(fields: object) -> None:
    with pytest.raises(CheckpointUnusable) as caught:
        load(rewritten(metadata__fingerprint="0" * 64, metadata__fields=json.dumps(fields)))
    assert len(str(caught.value)) < 2000


def test_importing_it_imports_no_torch() -> None:
    program = "import sys, workers.checkpoints; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
