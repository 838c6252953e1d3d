"""Files of field cases, and what pydicom and dcmtk read in them.

Makes the first instance of every variant of the cases d01 to d09 below FIELD, and writes it to OUT.
Prints a line for each: its name, Patient ID and Patient's Name in hexadecimal. Beside it lie the
values of its pixels after the modality's rescale, as 32-bit floats, if one of the two can decode them.

usage: field_values.py FIELD OUT
"""
import glob
import importlib.util
import os
import subprocess
import sys
import warnings

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.pixels import apply_modality_lut

warnings.simplefilter("ignore")
field, out = sys.argv[1:]
os.makedirs(out)
sys.path.insert(0, os.path.join(field, "lib"))


def write(path, made):
    if not isinstance(made, tuple):
        made.save_as(path, enforce_file_format=True)
        return
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = made[:3]
    with open(path, "wb") as file:
        file.write(b"\0" * 128 + b"DICM")
        write_file_meta_info(file, meta)
        file.write(made[3])


def stored(data):
    """Stored values, as PS3.5, 8.1.1 has them: pydicom leaves High Bit out of account."""
    for keyword in ("RescaleIntercept", "RescaleSlope"):
        # The same number twice, of which dcmtk takes the first.
        value = data.get(keyword)
        if isinstance(value, pydicom.multival.MultiValue) and len(set(value)) == 1:
            setattr(data, keyword, value[0])
    if data.HighBit == data.BitsStored - 1:
        return data.pixel_array
    cells = np.frombuffer(data.PixelData, "<u2").reshape(data.Rows, data.Columns)
    return cells >> (data.HighBit + 1 - data.BitsStored)


def read(path):
    """By pydicom, or else by pydicom after dcmtk has written the file anew: header and values."""
    best = None
    for tool in (None, "dcmconv", "dcmdjpeg"):
        source = path
        if tool:
            source = path[:-4] + ".anew"
            if subprocess.run([tool, "+ti", path, source], capture_output=True).returncode:
                continue
        try:
            data = pydicom.dcmread(source)
            best = data if "PatientID" in data else best
            return data, apply_modality_lut(stored(data), data).astype("<f4")
        except Exception as error:
            print(os.path.basename(path), "is not read:", error, file=sys.stderr)
    return pydicom.Dataset() if best is None else best, None


def text(data, keyword):
    value = data.get(keyword)
    if value is None:
        return ""
    is_list = isinstance(value, pydicom.multival.MultiValue)
    return "\\".join(map(str, value)) if is_list else str(value)


for case in sorted(glob.glob(os.path.join(field, "d0[1-9]-*"))):
    name = os.path.basename(case)[:3]
    spec = importlib.util.spec_from_file_location(name, os.path.join(case, "make.py"))
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    for index, variant in enumerate(maker.CASES):
        file = f"{name}-{index:02}.dcm"
        path = os.path.join(out, file)
        try:
            write(path, maker.make(variant)[0])
        except Exception as error:
            print(name, variant, "is not made:", error, file=sys.stderr)
            continue
        data, values = read(path)
        if values is not None:
            values.tofile(path[:-4] + ".values")
        names = [text(data, it) for it in ("PatientID", "PatientName")]
        print(file, *(it.encode().hex() for it in names), sep="\t")
