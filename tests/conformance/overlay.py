"""Compares a segmentation object with the masks it was made of, read independently.

usage: overlay.py SEG.dcm < JSON {"instances": [uid per slice], "rows": n, "columns": n,
                                  "files": {uid: source file}, "masks": [file of packed bits per segment]}
"""
import json
import sys
import warnings

import highdicom
import numpy
import pydicom

warnings.simplefilter("ignore")
asked = json.load(sys.stdin)
data = pydicom.dcmread(sys.argv[1])
slices, rows, columns = len(asked["instances"]), asked["rows"], asked["columns"]
wanted = []
for path in asked["masks"]:
    bits = numpy.unpackbits(numpy.fromfile(path, numpy.uint8), bitorder="little")
    wanted.append(bits[: slices * rows * columns].reshape(slices, rows, columns))
wanted = numpy.stack(wanted, axis=-1)

is_labels = data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
found = numpy.zeros_like(wanted)
frames = data.pixel_array
frames = frames[None] if frames.ndim == 2 else frames
for frame, group in zip(frames, data.PerFrameFunctionalGroupsSequence):
    source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
    place = asked["instances"].index(source)
    if is_labels:
        for number in range(wanted.shape[-1]):
            found[place, :, :, number] = frame == number + 1
    else:
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[place, :, :, number - 1] = frame > 0
    image = pydicom.dcmread(asked["files"][source], stop_before_pixels=True, force=True)
    assert (image.Rows, image.Columns) == (rows, columns), "another size than its source"
    if "FrameOfReferenceUID" in data:
        assert data.FrameOfReferenceUID == image.FrameOfReferenceUID
        at = group.PlanePositionSequence[0].ImagePositionPatient
        assert numpy.allclose(at, image.ImagePositionPatient, atol=1e-4), (at, image.ImagePositionPatient)
        shared = data.SharedFunctionalGroupsSequence[0]
        turned = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        assert numpy.allclose(turned, image.ImageOrientationPatient, atol=1e-5)
        spacing = shared.PixelMeasuresSequence[0].PixelSpacing
        assert numpy.allclose(spacing, image.PixelSpacing, atol=1e-6)
    else:
        assert "PlanePositionSequence" not in group
assert numpy.array_equal(found, wanted), "pixels differ"

if not is_labels:
    read = highdicom.seg.segread(sys.argv[1]).get_pixels_by_source_instance(
        asked["instances"],
        assert_missing_frames_are_empty=True,
        ignore_spatial_locations=True,
        rescale_fractional=False,
    )
    assert numpy.array_equal(numpy.asarray(read) > 0, wanted > 0), "highdicom reads other pixels"
print("equal", int(wanted.sum()), "pixels of", wanted.shape)
