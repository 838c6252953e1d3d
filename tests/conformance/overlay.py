"""Compares a segmentation object, read by pydicom and highdicom, with the masks of its run.

usage: overlay.py SEG.dcm < JSON {"instances": [uid per slice], "rows": n, "columns": n,
                                  "files": {uid: source file},
                                  "masks": [file of packed bits per segment]}
"""
import json
import sys
import warnings

import highdicom
import numpy
import pydicom

warnings.simplefilter("ignore")
request = json.load(sys.stdin)
data = pydicom.dcmread(sys.argv[1])
slices, rows, columns = len(request["instances"]), request["rows"], request["columns"]
expected = []
for path in request["masks"]:
    bits = numpy.unpackbits(numpy.fromfile(path, numpy.uint8), bitorder="little")
    expected.append(bits[: slices * rows * columns].reshape(slices, rows, columns))
expected = numpy.stack(expected, axis=-1)

is_labels = data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"
found = numpy.zeros_like(expected)
frames = data.pixel_array
frames = frames[None] if frames.ndim == 2 else frames
for frame, group in zip(frames, data.PerFrameFunctionalGroupsSequence):
    source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
    place = request["instances"].index(source)
    if is_labels:
        for number in range(expected.shape[-1]):
            found[place, :, :, number] = frame == number + 1
    else:
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[place, :, :, number - 1] = frame > 0
    image = pydicom.dcmread(request["files"][source], stop_before_pixels=True, force=True)
    assert (image.Rows, image.Columns) == (rows, columns), "another size than its source"
    if "FrameOfReferenceUID" in data:
        assert data.FrameOfReferenceUID == image.FrameOfReferenceUID
        position = group.PlanePositionSequence[0].ImagePositionPatient
        true_position = image.ImagePositionPatient
        assert numpy.allclose(position, true_position, atol=1e-4), (position, true_position)
        shared = data.SharedFunctionalGroupsSequence[0]
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        assert numpy.allclose(orientation, image.ImageOrientationPatient, atol=1e-5)
        spacing = shared.PixelMeasuresSequence[0].PixelSpacing
        assert numpy.allclose(spacing, image.PixelSpacing, atol=1e-6)
    else:
        assert "PlanePositionSequence" not in group
assert numpy.array_equal(found, expected), "pixels differ"

if not is_labels:
    read = highdicom.seg.segread(sys.argv[1]).get_pixels_by_source_instance(
        request["instances"],
        assert_missing_frames_are_empty=True,
        ignore_spatial_locations=True,
        rescale_fractional=False,
    )
    assert numpy.array_equal(numpy.asarray(read) > 0, expected > 0), "highdicom reads other pixels"
print("equal", int(expected.sum()), "pixels of", expected.shape)
