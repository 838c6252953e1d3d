"""Hounsfield units of CT files by pydicom and numpy: for each file the SHA-256 of its values as
32-bit floats, row by row, with NaN where a pixel is padding.

usage: hounsfield.py FOLDER
"""
import glob
import hashlib
import os
import sys
import warnings

import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut

warnings.simplefilter("ignore")
for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.dcm"))):
    ds = pydicom.dcmread(path)
    cells = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)
    if ds.HighBit == ds.BitsStored - 1:
        stored = ds.pixel_array
    else:
        stored = cells >> (ds.HighBit + 1 - ds.BitsStored)
    values = apply_modality_lut(stored, ds).astype("<f4")
    if "PixelPaddingValue" in ds:
        first = ds.PixelPaddingValue & 0xFFFF
        last = ds.get("PixelPaddingRangeLimit", ds.PixelPaddingValue) & 0xFFFF
        values[(cells >= min(first, last)) & (cells <= max(first, last))] = np.nan
    print(os.path.basename(path), hashlib.sha256(values.tobytes()).hexdigest())
