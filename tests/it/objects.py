"""Objects of a run, read by independent readers: segments from SEG with highdicom, measured with
numpy by comparing all pairs of points of the outline; the same measurements from SR with highdicom
and from ORU with hl7apy. Prints JSON: for each segment its label and numbers.

usage: objects.py ORU-FILE DICOM-FILE...
"""
import json
import sys
import warnings

import highdicom as hd
import numpy as np
import pydicom
from hl7apy.parser import parse_message

warnings.simplefilter("ignore")
oru, *files = sys.argv[1:]

seg = sr = None
for path in files:
    modality = pydicom.dcmread(path, stop_before_pixels=True).Modality
    if modality == "SEG":
        seg = hd.seg.segread(path)
    else:
        sr = hd.sr.srread(path)


def outline(mask):
    """The middles of the edges of every pixel of the boundary."""
    points = []
    padded = np.pad(mask, 1)
    for row, column in np.argwhere(mask):
        around = padded[row:row + 3, column:column + 3]
        if not (around[0, 1] and around[2, 1] and around[1, 0] and around[1, 2]):
            points += [(row, column - 0.5), (row, column + 0.5), (row - 0.5, column), (row + 0.5, column)]
    return np.array(points)


def axes(masks, spacing):
    """Long and short axis over all slices, by brute force."""
    best = (0.0, 0.0)
    for mask in masks:
        if not mask.any():
            continue
        points = outline(mask) * spacing
        apart = points[:, None] - points[None, :]
        lengths = np.hypot(apart[..., 0], apart[..., 1])
        length = lengths.max()
        if length < best[0] - 1e-9:
            continue
        for a, b in np.argwhere(lengths > length - 1e-9):
            if a < b:
                direction = apart[a, b] / lengths[a, b]
                along = np.abs(apart @ direction)
                across = np.abs(apart @ np.array([-direction[1], direction[0]]))
                short = across[along <= min(spacing) / 2 + 1e-9].max()
                if length > best[0] + 1e-9 or short > best[1]:
                    best = (float(length), float(short))
    return best


groups = {it.tracking_uid: it for it in sr.content.get_volumetric_roi_measurement_groups()}
message = parse_message(open(oru, encoding="utf8", newline="").read(), find_groups=False)
rows = [(it.obx_3.obx_3_2.to_er7(), it.obx_3.obx_3_1.to_er7(), it.obx_4.to_er7(), float(it.obx_5.to_er7()))
        for it in message.obx if it.obx_2.to_er7() == "NM"]

measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
spacing = np.array([float(it) for it in measures.PixelSpacing])
thickness = float(measures.SpacingBetweenSlices)
of_frames = [int(it.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
             for it in seg.PerFrameFunctionalGroupsSequence]
pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)

found = []
for segment in seg.SegmentSequence:
    masks = [pixels[i] for i, number in enumerate(of_frames) if number == segment.SegmentNumber]
    volume = sum(int(it.sum()) for it in masks) * spacing.prod() * thickness / 1000
    long_axis, short_axis = axes(masks, spacing)
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    modifier = kind.get("SegmentedPropertyTypeModifierCodeSequence")
    group = groups[segment.TrackingUID]
    in_report = {it.name.value: float(it.value) for it in group.get_measurements()}
    assert group.referenced_segment.referenced_segment_numbers == [segment.SegmentNumber]
    sites = group.finding_sites
    in_message = {code: (key, value) for name, code, key, value in rows
                  if name.endswith(" of " + segment.SegmentLabel)}
    found.append({
        "label": segment.SegmentLabel,
        "uid": segment.TrackingUID,
        "side": modifier[0].CodeValue if modifier else None,
        "side_in_report": sites[0].laterality.value if sites and sites[0].laterality else None,
        "measured": [volume, long_axis, short_axis],
        "report": [in_report[it] for it in ("118565006", "103339001", "103340004")],
        "message": [in_message[it][1] for it in ("118565006", "103339001", "103340004")],
        "keys": sorted({key for key, _ in in_message.values()}),
    })
print(json.dumps(found))
