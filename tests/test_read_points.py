"""Point clouds from PLY and PCD files: every encoding tells the same points, damage is told in one line."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from avfuse.errors import ReadError
from avfuse.io.points import read_points

FIELDS = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), ("ring", "u2"), ("time", "f8")])


@pytest.fixture(scope="module")
def cloud() -> np.ndarray:
    rng = np.random.default_rng(3)
    made = np.zeros(200, FIELDS)
    for axis in "xyz":
        made[axis] = rng.normal(0, 20, 200)
    made["ring"] = np.arange(200) // 5
    made["time"] = 1.6e9 + np.arange(200) / 128
    return made


def packed(data: bytes) -> bytes:
    """LZF, greedily: the farthest copy of up to 264 bytes within 8 kB, else single bytes."""
    out, k, seen = bytearray(), 0, {}
    while k < len(data):
        start = seen.get(data[k : k + 3])
        if len(data) - k < 3 or start is None or k - start > 8191:
            seen.setdefault(data[k : k + 3], k)
            out += bytes([0, data[k]])
            k += 1
            continue
        length = 3
        while k + length < len(data) and length < 264 and data[start + length] == data[k + length]:
            length += 1
        back = k - start - 1
        if length - 2 < 7:
            out += bytes([((length - 2) << 5) | (back >> 8), back & 255])
        else:
            out += bytes([(7 << 5) | (back >> 8), length - 9, back & 255])
        k += length
    return bytes(out)


def pcd(cloud: np.ndarray, kind: str) -> bytes:
    head = (
        f"# .PCD v0.7\nVERSION 0.7\nFIELDS x y z _ ring time\nSIZE 4 4 4 1 2 8\nTYPE F F F U U F\nCOUNT 1 1 1 3 1 1\n"
        f"WIDTH {len(cloud)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(cloud)}\nDATA {kind}\n"
    ).encode()
    if kind == "ascii":
        rows = (f"{p['x']!s} {p['y']!s} {p['z']!s} 0 0 0 {p['ring']} {p['time']!r}" for p in cloud)
        return head + "\n".join(rows).replace("np.float64", "").replace("(", "").replace(")", "").encode()
    columns = [cloud["x"].tobytes(), cloud["y"].tobytes(), cloud["z"].tobytes(), bytes(3 * len(cloud)),
               cloud["ring"].tobytes(), cloud["time"].tobytes()]  # fmt: skip
    if kind == "binary_compressed":
        raw = b"".join(columns)
        return head + struct.pack("<II", len(packed(raw)), len(raw)) + packed(raw)
    padded = np.zeros(len(cloud), [("p", "f4", 3), ("_", "u1", 3), ("ring", "u2"), ("time", "f8")])
    padded["p"] = np.stack([cloud["x"], cloud["y"], cloud["z"]], axis=1)
    padded["ring"], padded["time"] = cloud["ring"], cloud["time"]
    return head + padded.tobytes()


def ply(cloud: np.ndarray, kind: str) -> bytes:
    """Behind a list of faces, which has to be read to be passed."""
    head = (
        f"ply\nformat {kind} 1.0\ncomment made here\nelement face 2\nproperty list uchar int vertex_indices\n"
        f"element vertex {len(cloud)}\nproperty float x\nproperty float y\nproperty float z\n"
        "property ushort ring\nproperty double time\nend_header\n"
    ).encode()
    if kind == "ascii":
        rows = [f"{p['x']!s} {p['y']!s} {p['z']!s} {p['ring']} {float(p['time'])!r}" for p in cloud]
        return head + "\n".join(["3 0 1 2", "4 0 1 2 3", *rows]).encode()
    order = "<" if kind == "binary_little_endian" else ">"
    faces = struct.pack(f"{order}B3iB4i", 3, 0, 1, 2, 4, 0, 1, 2, 3)
    return head + faces + cloud.astype(FIELDS.newbyteorder(order)).tobytes()


FILES = [(ply, k) for k in ("ascii", "binary_little_endian", "binary_big_endian")]
FILES += [(pcd, k) for k in ("ascii", "binary", "binary_compressed")]


@pytest.mark.parametrize(("write", "kind"), FILES)
def test_every_encoding_tells_the_same_points(cloud, tmp_path, write, kind):
    path = tmp_path / "cloud"
    path.write_bytes(write(cloud, kind))
    found = read_points(path)
    assert_array_equal(found.points, np.stack([cloud["x"], cloud["y"], cloud["z"]], axis=1).astype(np.float64))
    assert_array_equal(found.fields["ring"], cloud["ring"])
    assert_array_equal(found.fields["time"], cloud["time"])
    assert "_" not in found.fields


@pytest.mark.parametrize(("write", "kind"), FILES)
def test_points_without_a_return_are_dropped_with_their_fields(cloud, tmp_path, write, kind):
    holes = cloud.copy()
    holes["y"][::7] = np.nan
    (tmp_path / "cloud").write_bytes(write(holes, kind))
    found = read_points(tmp_path / "cloud")
    assert found.dropped == np.isnan(holes["y"]).sum()
    assert_array_equal(found.fields["ring"], np.delete(cloud["ring"], np.s_[::7]))


@pytest.mark.parametrize(("write", "kind"), FILES)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_what_is_cut_short_is_said_in_one_line(cloud, tmp_path, write, kind, share):
    whole = write(cloud, kind)
    (tmp_path / "cloud").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ReadError, match=r"^[^\n]*cloud: [^\n]+$"):
        read_points(tmp_path / "cloud")


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        (b"FIELDS x y z", b"FIELDS a y z", "no x"),
        (b"SIZE 4 4 4", b"SIZE 4 4", "header is not understood"),
        (b"TYPE F F F", b"TYPE F F Q", "header is not understood"),
        (b"DATA binary", b"DATA zipped", "kind 'zipped'"),
        (b"POINTS 200", b"POINTS 201", "ends after 200 of 201"),
    ],
)
def test_odd_headers_are_named(cloud, tmp_path, was, becomes, said):
    (tmp_path / "a.pcd").write_bytes(pcd(cloud, "binary").replace(was, becomes))
    with pytest.raises(ReadError, match=said):
        read_points(tmp_path / "a.pcd")


def test_packed_data_that_are_damaged_are_found(cloud, tmp_path):
    data = bytearray(pcd(cloud, "binary_compressed"))
    at = data.index(b"binary_compressed") + 26
    data[at : at + 40] = b"\xff" * 40  # refers to before the beginning
    (tmp_path / "a.pcd").write_bytes(data)
    with pytest.raises(ReadError, match="damaged after"):
        read_points(tmp_path / "a.pcd")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.ply").write_bytes(b"solid cube\n")
    for path, said in ((tmp_path / "a.ply", "neither"), (tmp_path / "none.ply", "cannot be read")):
        with pytest.raises(ReadError, match=said):
            read_points(path)


def test_real_scans_are_read(shared):
    scan = read_points(shared / "geometry" / "lidar_pair" / "source.ply")
    assert scan.points.shape == (69792, 3)
    assert np.abs(scan.points).max() < 60
    sweep = read_points(shared / "geometry" / "lidar_camera" / "calib.pcd")
    assert sweep.points.shape == (85546, 3)
    assert set(np.unique(sweep.fields["ring"])) == set(range(64))
