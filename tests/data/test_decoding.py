"""Pixels of every kind of image file, and of arrays."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seclcompress.data.decoding import decode, size_of
from seclcompress.errors import DataError


def saved(path: Path, values: np.ndarray) -> str:
    Image.fromarray(values).save(path)
    return str(path)


class TestFloatingPoint:
    def test_values_from_0_to_1(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "x.tif", np.array([[0.0, 0.2, 1.0]], dtype=np.float32))
        assert decode(path)[0].tolist() == [[0, 51, 255]]
        noisy = saved(tmp_path / "y.tif", np.array([[-0.05, 0.2, 1.04]], dtype=np.float32))
        assert decode(noisy)[0].tolist() == [[0, 51, 255]]

    @pytest.mark.parametrize("values", [[0, 200.0], [-1.0, 1.0], [0, np.nan], [0, np.inf]])
    def test_any_other_range_is_refused(self, tmp_path: Path, values: list[float]) -> None:
        path = saved(tmp_path / "x.tif", np.array([values], dtype=np.float32))
        with pytest.raises(DataError, match=r"x\.tif: its floating-point values lie between"):
            decode(path)


def test_32_bit_numbers_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.tif", np.array([[0, 200]], dtype=np.int32))
    with pytest.raises(DataError, match=r"whole numbers of 32 bits \(here from 0 to 200\), whose"):
        decode(path)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bits_keep_the_upper_8(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 77 * 256 + 200, 65535]], dtype=np.uint16)
    assert decode(saved(tmp_path / f"x.{suffix}", values))[1].tolist() == [[0, 77, 255]]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_picture_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :16] = 255  # the upper left quarter
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(upright)
    if orientation in back:
        image = image.transpose(back[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = str(tmp_path / f"x.{suffix}")
    image.save(path, exif=exif)
    assert size_of(path) == (32, 16)
    found = decode(path)
    assert found.shape == (3, 16, 32)
    assert ((found > 128).numpy() == (upright > 128).transpose(2, 0, 1)).all()


def test_damaged_exif_is_no_reason_to_refuse_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.new("RGB", (6, 4)).save(path, exif=b"Exif\0\0MM\0*\0\0\0\xffgarbage")
    assert size_of(str(path)) == (6, 4)
    assert decode(str(path)).shape == (3, 4, 6)


class TestTransparency:
    """As torchvision's folders: alpha is dropped, and the colour below it is seen."""

    def test_alpha_is_dropped_or_is_the_fourth_channel(self, tmp_path: Path) -> None:
        path = str(tmp_path / "x.png")
        Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(path)
        assert decode(path)[:, 0, 0].tolist() == [10, 20, 30]
        assert decode(path, 4)[:, 0, 0].tolist() == [10, 20, 30, 0]

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("transparency", [0, b"\x00\x80"])
    def test_palettes(self, tmp_path: Path, transparency: int | bytes) -> None:
        path = str(tmp_path / "x.png")
        image = Image.new("P", (2, 1))
        image.putpalette([200, 40, 40, 40, 200, 40])
        image.putpixel((1, 0), 1)
        image.save(path, transparency=transparency)
        assert decode(path)[:, 0].T.tolist() == [[200, 40, 40], [40, 200, 40]]
        with Image.open(path) as again:
            torchvisions = np.array(again.convert("RGBA"))[..., :3]
        assert (decode(path).permute(1, 2, 0).numpy() == torchvisions).all()


def test_the_first_of_several_pictures(tmp_path: Path) -> None:
    path = str(tmp_path / "x.gif")
    first, second = (Image.new("RGB", (4, 3), c) for c in ((255, 0, 0), (0, 0, 255)))
    first.save(path, save_all=True, append_images=[second])
    assert decode(path)[:, 0, 0].tolist() == [255, 0, 0]


def test_grey(tmp_path: Path) -> None:
    path = str(tmp_path / "x.png")
    Image.new("RGB", (2, 2), (255, 0, 0)).save(path)
    assert decode(path, 1).tolist() == [[[76, 76], [76, 76]]]
    with pytest.raises(
        DataError, match=r"the network takes 12 channels.*save the picture as an array"
    ):
        decode(path, 12)


def test_programs_in_disguise_are_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow would hand PostScript to an interpreter, whatever the file's ending says."""
    started: list[object] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: started.append(1))
    path = tmp_path / "x.png"
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    )
    with Image.open(path) as image:
        assert image.format == "EPS"
    with pytest.raises(DataError, match=r"x\.png: it is empty, damaged or no image"):
        decode(str(path))
    assert started == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_a_pipe_that_takes_a_files_place_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    os.mkfifo(path)
    with pytest.raises(DataError, match="no regular file but a folder, pipe, device or socket"):
        decode(str(path))
    assert size_of(str(path)) is None


class TestArrays:
    def array(self, tmp_path: Path, values: np.ndarray, channels: int) -> torch.Tensor:
        path = tmp_path / "x.npy"
        np.save(path, values, allow_pickle=True)
        return decode(str(path), channels)

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
    def test_any_number_of_channels_first_or_last(self, tmp_path: Path, order: tuple) -> None:
        values = np.random.default_rng(0).integers(0, 255, (24, 20, 12), dtype=np.uint8)
        found = self.array(tmp_path, values.transpose(order), 12)
        assert found.dtype == torch.uint8
        assert (found.numpy() == values.transpose(2, 0, 1)).all()
        assert size_of(str(tmp_path / "x.npy")) == (20, 24)

    def test_types(self, tmp_path: Path) -> None:
        values = np.array([[0, 300, 65535]])
        assert self.array(tmp_path, values.astype(np.uint16), 1).tolist() == [[[0, 1, 255]]]
        real = self.array(tmp_path, values.astype(np.float64), 1)
        assert real.dtype == torch.float32  # as they are
        assert real.tolist() == [[[0, 300, 65535]]]
        for kind in (np.int32, np.bool_, np.complex64, "U3"):
            with pytest.raises(DataError, match="it takes uint8, uint16 or floating-point"):
                self.array(tmp_path, values.astype(kind), 1)
        with pytest.raises(DataError, match="values that are not finite"):
            self.array(tmp_path, np.array([[1e300]]), 1)

    def test_shapes(self, tmp_path: Path) -> None:
        for shape in ((4, 5, 3), (5,), (1, 4, 5, 12), (0, 5, 12)):
            with pytest.raises(DataError, match=r"the network takes \(H, W, 12\) or \(12, H, W\)"):
                self.array(tmp_path, np.zeros(shape, dtype=np.uint8), 12)

    def test_nothing_is_unpickled(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="x.npy"):
            self.array(tmp_path, np.array([[{"a": 1}]], dtype=object), 1)

    def test_size_is_checked_before_memory_is_asked_for(self, tmp_path: Path) -> None:
        header = io.BytesIO()
        fields = {"descr": "|u1", "fortran_order": False, "shape": (2**15, 2**15, 12)}
        np.lib.format.write_array_header_1_0(header, fields)
        path = tmp_path / "x.npy"
        path.write_bytes(header.getvalue() + b"\0" * 100)
        with pytest.raises(DataError, match=r"takes 12,884,901,888 bytes; it has 100"):
            decode(str(path), 12)
        with path.open("r+b") as file:
            file.truncate(2**34)
        with pytest.raises(DataError, match="larger than the limit for a picture"):
            decode(str(path), 12)
