"""Volume of bone of a CT series in mL, computed with numpy and scipy, and read from SEG, SR and ORU
with highdicom and hl7apy. Prints four numbers.

usage: bone_volume.py SERIES-FOLDER PACS-FOLDER ORU-FILE
"""
import glob
import os
import sys
import warnings

import highdicom as hd
import numpy as np
import pydicom
from hl7apy.parser import parse_message
from scipy import ndimage

warnings.simplefilter("ignore")
series, pacs, oru = sys.argv[1:]

slices = [pydicom.dcmread(path) for path in glob.glob(os.path.join(series, "*"))]
row, column = np.reshape(np.array(slices[0].ImageOrientationPatient, float), (2, 3))
normal = np.cross(row, column)
heights = [np.dot(normal, np.array(it.ImagePositionPatient, float)) for it in slices]
order = np.argsort(heights)
spacing = (max(heights) - min(heights)) / (len(slices) - 1)
hu = np.stack([slices[i].pixel_array * float(slices[i].RescaleSlope) + float(slices[i].RescaleIntercept)
               for i in order])
labels, count = ndimage.label(hu >= 300, np.ones((3, 3, 3)))
sizes = np.bincount(labels.ravel())
components = np.isin(labels, [i for i in range(1, count + 1) if sizes[i] >= 64])
bone = ndimage.binary_fill_holes(components)
voxel = float(slices[0].PixelSpacing[0]) * float(slices[0].PixelSpacing[1]) * spacing / 1000

seg = sr = None
for path in glob.glob(os.path.join(pacs, "*")):
    modality = pydicom.dcmread(path, stop_before_pixels=True).Modality
    if modality == "SEG":
        seg = int(hd.seg.segread(path).pixel_array.sum()) * voxel
    else:
        groups = hd.sr.srread(path).content.get_volumetric_roi_measurement_groups()
        sr = groups[0].get_measurements()[0].value

text = open(oru, encoding="utf8", newline="").read()
message = parse_message(text, find_groups=False)
values = [it for it in message.obx if it.obx_2.to_er7() == "NM"]
print(int(bone.sum()) * voxel, seg, sr, float(values[0].obx_5.to_er7()))
