"""Names from independent readers: pydicom for DICOM, codecs of Python for HL7.

list FOLDER: prints character set, bytes and text of the patient's name of every DICOM file.
check OUT PACS: compares the names in every object, message and bundle with OUT/expected.tsv.
"""

import io
import json
import pathlib
import sys
import warnings

import pydicom
import pypdf

warnings.simplefilter("ignore")

KINDS = {
    "Segmentation Storage",
    "Comprehensive 3D SR Storage",
    "Enhanced SR Storage",
    "Secondary Capture Image Storage",
    "Encapsulated PDF Storage",
    "ORU",
    "GB",
    "MDM",
    "FHIR",
}

# Arabic letters, which text extraction may return as contextual forms.
UNSHAPED = {chr(it) for it in range(0x0600, 0x0700)}


def list_names(folder):
    for path in sorted(pathlib.Path(folder).glob("*.dcm")):
        data = pydicom.dcmread(path, force=True)
        raw = pydicom.dcmread(path, force=True).get_item("PatientName")
        if raw is None or not raw.value:
            continue
        charset = data.get("SpecificCharacterSet", "")
        if not isinstance(charset, str):
            charset = "\\".join(charset)
        name = str(data.PatientName).rstrip("=").rstrip("^")
        content = raw.value if isinstance(raw.value, bytes) else raw.value.original_string
        print(f"{charset}\t{content.rstrip(b' ').hex()}\t{name}")


def of_message(path, codec):
    """The name in PID-5, with its repetitions as groups of a DICOM name."""
    text = path.read_bytes().decode(codec)
    pid = next(line for line in text.split("\r") if line.startswith("PID"))
    groups = {"A": "", "I": "", "P": ""}
    for repetition in pid.split("|")[5].split("~"):
        parts = repetition.split("^")
        kind = parts[7] if len(parts) > 7 and parts[7] else "A"
        first = parts[:5] + [""] * (5 - len(parts[:5]))
        ordered = [first[0], first[1], first[2], first[4], first[3]]
        groups[kind] = "^".join(ordered).rstrip("^")
    return "=".join([groups["A"], groups["I"], groups["P"]]).rstrip("=")


def check_names(out, pacs):
    objects = {}
    for path in pathlib.Path(pacs).rglob("*.dcm"):
        data = pydicom.dcmread(path, stop_before_pixels=True)
        names = objects.setdefault(str(data.PatientID), {})
        kind = data.SOPClassUID.name
        names[kind] = str(data.PatientName).rstrip("=")
        if data.SpecificCharacterSet != "ISO_IR 192":
            names[kind] = "not UTF-8"
        if kind.startswith("Encapsulated PDF"):
            pages = pypdf.PdfReader(io.BytesIO(data.EncapsulatedDocument)).pages
            letters = set("".join(it.extract_text() for it in pages))
            missing = set(str(data.PatientName)) - letters - set("^= ")
            if missing and not missing & UNSHAPED:
                names[kind] = f"pages without {missing}"
    wrong, count = 0, 0
    for line in (out / "expected.tsv").read_text(encoding="utf8").splitlines():
        patient, name = line.split("\t")
        count += 1
        found = dict(objects.get(patient, {}))
        found["ORU"] = of_message(out / f"{patient}.utf8.hl7", "utf8")
        found["GB"] = of_message(out / f"{patient}.gb.hl7", "gb18030")
        found["MDM"] = of_message(out / f"{patient}.mdm.hl7", "gb18030")
        bundle = json.loads((out / f"{patient}.json").read_text(encoding="utf8"))
        subject = bundle["entry"][-2]["resource"]["subject"]
        words = name.replace("^", " ").replace("=", " ").split()
        found["FHIR"] = name if subject["display"].split() == words else subject["display"]
        plain = "=".join(it.rstrip("^") for it in name.split("="))
        if set(found) != KINDS or any(
            "=".join(it.rstrip("^") for it in value.split("=")) != plain for value in found.values()
        ):
            wrong += 1
            print(patient, repr(name), found)
    print(f"{count} names, {wrong} wrong")


if sys.argv[1] == "list":
    list_names(sys.argv[2])
else:
    check_names(pathlib.Path(sys.argv[2]), sys.argv[3])
