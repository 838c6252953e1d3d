"""Compares pictures with those that dcmtk and pydicom make of the same files.

usage: shown.py FOLDER

FOLDER/list.json has, for each picture, the DICOM file, our picture (PPM), and how it was made.
For each picture one line: {"name", "dcmtk", "pydicom"}: the largest difference of a grey level or
colour from that of each peer, or the peer's reason for having none. Pixels that are padding count
only with our picture, where they have to be black: "padding" is the brightest of them.
"""
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pydicom
from pydicom.pixels import (
    apply_color_lut,
    apply_modality_lut,
    apply_voi,
    apply_windowing,
    pixel_array,
)

warnings.simplefilter("ignore")
# Beyond every value of an image: it gets the darkest or the brightest level.
FAR = 1e7


def ppm(data):
    """A binary PGM or PPM as rows of red, green and blue."""
    kind, rest = data[:2], data[2:]
    numbers = []
    while len(numbers) < 3:
        rest = rest.lstrip()
        if rest.startswith(b"#"):
            rest = rest.split(b"\n", 1)[1]
            continue
        digits = rest.split(None, 1)[0]
        numbers.append(int(digits))
        rest = rest[len(digits):]
    width, height, _ = numbers
    samples = 3 if kind == b"P6" else 1
    pixels = np.frombuffer(rest[1:], np.uint8)[: width * height * samples]
    pixels = pixels.reshape(height, width, samples)
    return pixels if samples == 3 else np.repeat(pixels, 3, axis=2)


def by_dcmtk(path, manner):
    number = str(manner["index"] + 1)
    options = {
        "window": ["+Wi", number],
        "table": ["+Wl", number],
        "set": ["+Ww", str(manner.get("center")), str(manner.get("width")), "+Wfl"],
        "levels": ["-W"],
        "colour": [],
    }[manner["kind"]]
    if manner.get("function") == "LINEAR_EXACT":
        return "dcmtk does not know LINEAR_EXACT"
    command = ["dcmj2pnm", "-q", "-O", "+op", *options, path]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode != 0 or not made.stdout:
        return "dcmtk does not decode it"
    return ppm(made.stdout)


def by_pydicom(path, manner):
    try:
        ds = pydicom.dcmread(path, force=True)
        kind = manner["kind"]
        if kind == "colour":
            if ds.PhotometricInterpretation == "PALETTE COLOR":
                bits = ds.RedPaletteColorLookupTableDescriptor[2]
                return apply_color_lut(ds.pixel_array, ds) * (255.0 / (2**bits - 1))
            return pixel_array(ds) * (255.0 / (2**ds.BitsStored - 1))
        values = apply_modality_lut(ds.pixel_array, ds).astype(float)
        if kind == "table":
            # The table is indexed by whole numbers.
            shown = apply_voi(np.rint(values).astype(np.int32), ds, manner["index"])
            gray = shown * (255.0 / (2 ** ds.VOILUTSequence[manner["index"]].LUTDescriptor[2] - 1))
        else:
            if kind in ("set", "levels"):
                ds.WindowCenter, ds.WindowWidth = manner["center"], manner["width"]
                ds.VOILUTFunction = "LINEAR"
            index = manner["index"] if kind == "window" else 0
            ends = np.array([-FAR, FAR])
            shown = apply_windowing(np.concatenate([values.ravel(), ends]), ds, index)
            low, high = shown[-2:]
            gray = ((shown[:-2] - low) * (255.0 / (high - low))).reshape(values.shape)
        if ds.PhotometricInterpretation == "MONOCHROME1":
            gray = 255 - gray
        return np.repeat(gray[:, :, None], 3, axis=2)
    except Exception as error:  # pylint: disable=broad-except
        return f"pydicom: {type(error).__name__}"


def padding(path):
    """Which pixels are padding; nothing if none are, or the pixels cannot be decoded."""
    ds = pydicom.dcmread(path, force=True)
    if "PixelPaddingValue" not in ds or ds.get("SamplesPerPixel") != 1:
        return None
    bits = 2**ds.BitsAllocated - 1
    try:
        cells = ds.pixel_array.astype(np.int64)
    except Exception:  # pylint: disable=broad-except
        return None
    first = ds.PixelPaddingValue
    last = ds.get("PixelPaddingRangeLimit", first)
    first, last = sorted([int(first), int(last)])
    within = (cells >= first) & (cells <= last)
    return within | (((cells & bits) >= first) & ((cells & bits) <= last))


def difference(ours, theirs, is_padding):
    if isinstance(theirs, str):
        return theirs
    if theirs.shape != ours.shape:
        return f"another size: {theirs.shape}"
    apart = np.abs(ours.astype(float) - theirs)
    if is_padding is not None:
        apart = apart[~is_padding]
    return round(float(apart.max()), 3) if apart.size else 0.0


folder = sys.argv[1]
with open(os.path.join(folder, "list.json"), encoding="utf-8") as file:
    pictures = json.load(file)
for picture in pictures:
    path = picture["file"]
    with open(picture["picture"], "rb") as file:
        ours = ppm(file.read())
    is_padding = padding(path)
    print(json.dumps({
        "name": picture["name"],
        "dcmtk": difference(ours, by_dcmtk(path, picture["manner"]), is_padding),
        "pydicom": difference(ours, by_pydicom(path, picture["manner"]), is_padding),
        "padding": int(ours[is_padding].max()) if is_padding is not None and is_padding.any() else 0,
    }))
