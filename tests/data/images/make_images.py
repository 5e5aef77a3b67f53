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

# --- Netpbm. Labels are the numbers in the file, but that 1 is white in bitmaps, as Pillow has it.
def pnm(name, head, body, **readings):
    (here / name).write_bytes(head.encode() + body)
    keep(name, **readings)


def numbers(array):
    return "\n".join(" ".join(map(str, row.reshape(-1))) for row in array).encode() + b"\n"


black = gray > 128
pnm("text.pbm", "P1\n# a comment\n5 4\n", numbers(black.astype(int)), **cv, labels=1 - black.astype(np.uint8))
pnm("binary.pbm", "P4\n5 4\n", np.packbits(black, axis=1).tobytes(), **cv, labels=1 - black.astype(np.uint8))
pnm("text.pgm", "P2 5 4 15\n", numbers(gray % 16), **cv, labels=gray % 16)
pnm("binary.pgm", "P5 5 4 # size\n255\n", gray.tobytes(), **cv, labels=gray)
pnm("binary16.pgm", "P5\n5 4\n65535\n", rgb16[..., 0].astype(">u2").tobytes(), **cv,
    labels=rgb16[..., 0].astype(np.int32))
pnm("text.ppm", "P3\n5 4\n100\n", numbers(rgb % 101), **cv)
pnm("binary.ppm", "P6\n5 4\n255\n", rgb.tobytes(), **cv)
pnm("binary16.ppm", "P6\n5 4\n65535\n", rgb16.astype(">u2").tobytes(), **cv)

# --- WebP
pil("lossy.webp", Image.fromarray(big), quality=80)
keep("lossy.webp", **cv)
pil("lossless.webp", Image.fromarray(np.dstack([gray % 4] * 3)), lossless=True)
keep("lossless.webp", color="cv2", labels=gray % 4)
pil("alpha.webp", Image.fromarray(np.dstack([rgb, gray])), lossless=True, exact=True)
keep("alpha.webp", color=rgb[..., ::-1], unchanged="cv2")

# --- TIFF files with pages, without some tiles, and with values that are no data
with tifffile.TiffWriter(here / "pages.tif") as file:
    file.write(gray, photometric="minisblack", metadata=None)
    file.write(gray[::2, ::2], photometric="minisblack", subfiletype=1, metadata=None)
    file.write(gray // 2, photometric="minisblack", metadata=None)
    file.write(gray > 128, photometric="minisblack", subfiletype=4, metadata=None)
keep("pages.tif", unchanged=gray, labels=gray)
with tifffile.TiffWriter(here / "overview.tif") as file:
    file.write(gray, photometric="minisblack", metadata=None)
    file.write(gray[::2, ::2], photometric="minisblack", subfiletype=1, metadata=None)
tile = rng.integers(0, 256, (16, 16), dtype=np.uint8)
sparse = np.zeros((20, 40), np.uint8)
sparse[:16, 16:32] = tile
no_data = lambda text: [(42113, "s", 0, text, True)]


def sparse_tiff(name, fill, **options):
    tifffile.imwrite(here / name, sparse, tile=(16, 16), photometric="minisblack", metadata=None,
                     **options)
    with tifffile.TiffFile(here / name) as file:
        tags = [file.pages[0].tags[key] for key in ("TileOffsets", "TileByteCounts")]
        places = [(tag.valueoffset, tag.dtype.name, len(tag.value)) for tag in tags]
    data = bytearray((here / name).read_bytes())
    for at, kind, count in places:
        size = {"SHORT": 2, "LONG": 4}[kind]
        for i in set(range(count)) - {1}:
            data[at + i * size:at + (i + 1) * size] = bytes(size)
    (here / name).write_bytes(data)
    expect = np.full((20, 40), fill, np.uint8)
    expect[:16, 16:32] = tile
    keep(name, unchanged=expect, labels=expect)


sparse_tiff("sparse.tif", 0)
sparse_tiff("sparse_deflate.tif", 7, compression="deflate", extratags=no_data("7"))
holes = many[..., :3].copy()
holes[1, 2, 1] = -9999
tiff("no_data.tif", holes, photometric="rgb", extratags=no_data("-9999"))
keep("no_data.tif", unchanged=holes[..., ::-1])
holes[3, 4, 0] = np.nan
tiff("nan.tif", holes, photometric="rgb")

(here / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
