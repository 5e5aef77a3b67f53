"""Makes the pictures of this folder and expected.json: what OpenCV, Pillow and tifffile read.

    pip install numpy "opencv-python-headless<5" pillow tifffile imagecodecs
    python make_images.py
"""
import json
import pathlib

import cv2
import numpy as np
import tifffile
from PIL import Image

here = pathlib.Path(__file__).parent
rng = np.random.default_rng(0)
H, W = 4, 5
rgb = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
gray = rgb[..., 0]
rgb16 = rng.integers(0, 65536, (H, W, 3), dtype=np.uint16)
expected = {}


def keep(name, **readings):
    """readings: form -> array, or 'cv2' for what OpenCV reads."""
    data = np.fromfile(here / name, np.uint8)
    flags = {"color": cv2.IMREAD_COLOR, "grayscale": cv2.IMREAD_GRAYSCALE,
             "unchanged": cv2.IMREAD_UNCHANGED}
    entry = {}
    for form, value in readings.items():
        if isinstance(value, str):
            value = cv2.imdecode(data, flags[form])
        value = np.asarray(value)
        flat = value.reshape(-1)
        entry[form] = {"shape": list(value.shape), "dtype": str(value.dtype)}
        if flat.size <= 180:
            entry[form]["values"] = flat.tolist()
        else:
            weights = np.arange(flat.size) % 97 + 1
            entry[form]["checksum"] = int((flat.astype(np.int64) * weights).sum())
    expected[name] = entry


def pil(name, image, **options):
    image.save(here / name, **options)


cv = dict(color="cv2", grayscale="cv2", unchanged="cv2")

# --- PNG
pil("rgb.png", Image.fromarray(rgb))
keep("rgb.png", **cv)
pil("rgba.png", Image.fromarray(np.dstack([rgb, gray])))
keep("rgba.png", **cv)
pil("gray_alpha.png", Image.fromarray(rgb[..., :2].copy(), "LA"))
keep("gray_alpha.png", **cv)
pil("gray.png", Image.fromarray(gray))
keep("gray.png", **cv, labels=gray)
palette = Image.fromarray(gray % 4)
palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 200, 2, 3])
pil("palette.png", palette, bits=8)
keep("palette.png", **cv, labels=gray % 4)
pil("palette_2bit.png", palette, bits=2)
keep("palette_2bit.png", **cv, labels=gray % 4)
pil("palette_transparent.png", palette, transparency=1)
keep("palette_transparent.png", **cv, labels=gray % 4)
pil("bilevel.png", Image.fromarray(gray > 128))
keep("bilevel.png", **cv, labels=(gray > 128).astype(np.uint8))
cv2.imwrite(str(here / "gray16.png"), rgb16[..., 0])
keep("gray16.png", **cv, labels=rgb16[..., 0].astype(np.int32))
cv2.imwrite(str(here / "rgb16.png"), rgb16[..., ::-1])
keep("rgb16.png", **cv)
same = np.dstack([gray, gray, gray])
pil("gray_as_rgb.png", Image.fromarray(same))
keep("gray_as_rgb.png", labels=gray)

# --- JPEG
big = np.add.outer(np.arange(16) * 9, np.arange(24) * 4).astype(np.uint8)
big = np.dstack([big, big.T.copy().reshape(16, 24), 255 - big])
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pil(f"exif_{orientation}.jpg", Image.fromarray(big), quality=90, exif=exif)
    keep(f"exif_{orientation}.jpg", **cv)
pil("gray.jpg", Image.fromarray(big[..., 0]), quality=80)
keep("gray.jpg", **cv)
pil("progressive.jpg", Image.fromarray(big), quality=80, progressive=True, subsampling=2)
keep("progressive.jpg", **cv)
pil("inks.jpg", Image.fromarray(big).convert("CMYK"), quality=80)
keep("inks.jpg", color="cv2")

# --- BMP
pil("rgb.bmp", Image.fromarray(rgb))
keep("rgb.bmp", color="cv2", unchanged="cv2")
pil("palette.bmp", palette)
keep("palette.bmp", color="cv2")
pil("gray.bmp", Image.fromarray(gray))
keep("gray.bmp", color="cv2", labels=gray)


# --- TIFF
def tiff(name, array, **options):
    tifffile.imwrite(here / name, array, metadata=None, **options)


tiff("rgb.tif", rgb, photometric="rgb")
keep("rgb.tif", **cv)
tiff("rgb_lzw_predictor.tif", rgb, photometric="rgb", compression="lzw", predictor=True)
keep("rgb_lzw_predictor.tif", **cv)
tiff("rgb_planar.tif", np.moveaxis(rgb, 2, 0), photometric="rgb", planarconfig="separate")
keep("rgb_planar.tif", **cv)
tiff("rgba.tif", np.dstack([rgb, gray]), photometric="rgb", planarconfig="contig")
# OpenCV multiplies the colours by the alpha; here bands are kept as they are.
keep("rgba.tif", unchanged=np.dstack([rgb[..., ::-1], gray]))
tiff("rgb16.tif", rgb16, photometric="rgb", byteorder=">")
keep("rgb16.tif", color="cv2", unchanged="cv2")
tiff("gray16.tif", rgb16[..., 0])
keep("gray16.tif", color="cv2", unchanged="cv2", labels=rgb16[..., 0].astype(np.int32))
real = (rng.random((H, W)) * 300).astype(np.float32)
tiff("float.tif", real)
keep("float.tif", unchanged=real)
tiff("white_is_0.tif", gray, photometric="miniswhite")
keep("white_is_0.tif", **cv)
tiff("palette.tif", gray % 4, photometric="palette",
     colormap=(np.arange(768).reshape(3, 256) * 80).astype(np.uint16))
keep("palette.tif", color="cv2", labels=gray % 4)
tiff("bilevel.tif", gray > 128)
# tifffile writes bilevel pictures with 0 for white; Pillow reads them so.
keep("bilevel.tif", color="cv2", unchanged="cv2",
     labels=np.array(Image.open(here / "bilevel.tif")).astype(np.uint8))
tiff("int16.tif", rgb16[..., 0].astype(np.int16))
keep("int16.tif", unchanged=rgb16[..., 0].astype(np.int16).astype(np.float32),
     labels=rgb16[..., 0].astype(np.int16).astype(np.int32))
tiff("uint32.tif", rgb16[..., 0].astype(np.uint32) * 7)
keep("uint32.tif", labels=(rgb16[..., 0].astype(np.int32) * 7))
bands = rng.integers(0, 65536, (40, 35, 6), dtype=np.uint16)[:, :, :]
bands[8:, 4:] = 7  # small when compressed
tiff("bands6_tiles.tif", bands, photometric="minisblack", planarconfig="contig", tile=(16, 16),
     compression="deflate")
keep("bands6_tiles.tif", unchanged=bands)
tiff("bands6_planar_tiles.tif", np.moveaxis(bands, 2, 0), photometric="minisblack",
     planarconfig="separate", tile=(16, 32), compression="deflate")
keep("bands6_planar_tiles.tif", unchanged=bands)
tiff("bands6_strips.tif", bands, photometric="minisblack", planarconfig="contig", rowsperstrip=7,
     compression="deflate")
keep("bands6_strips.tif", unchanged=bands)
many = rng.random((H, W, 9)).astype(np.float32)
tiff("bands9_float.tif", many, photometric="minisblack", planarconfig="contig")
keep("bands9_float.tif", unchanged=many)

(here / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
