"""send_case.py CASE FOLDER: makes each variant of a case, sends its bytes as they are on an association of
its own, and tells in a line of JSON what it is and what was answered. Files are kept in FOLDER/VARIANT."""
import importlib.util
import json
import os
import struct
import sys
import warnings

warnings.filterwarnings("ignore")
case, folder = sys.argv[1:3]
sys.path.insert(0, os.path.join(case, "..", "lib"))
import hunt
from rawdimse import Assoc


def data_set(path):
    with open(path, "rb") as file:
        whole = file.read()
    return whole[144 + struct.unpack("<I", whole[140:144])[0] :]


def associate(items):
    return Assoc(hunt.DICOM, "CT1", "ISOCENTER", sorted({(it[0], it[2]) for it in items}))


def send(items):
    statuses, association = [], associate(items)
    for sop_class, instance, syntax, body in items:
        try:
            statuses.append(association.store(sop_class, instance, syntax, body))
        except Exception as error:
            statuses.append(f"none: {error!r}")
            association.s.close()
            association = associate(items)
    association.release()
    return statuses


def prepared(name, made):
    if isinstance(made[0], tuple):
        return [it[:4] for it in made], [it[4] for it in made], []
    paths = hunt.save(made, os.path.join(folder, name))
    items = [
        (str(it.SOPClassUID), str(it.SOPInstanceUID), str(it.file_meta.TransferSyntaxUID), data_set(path))
        for it, path in zip(made, paths)
    ]
    return items, [str(it.StudyInstanceUID).strip() for it in made], [str(it.PatientID) for it in made]


spec = importlib.util.spec_from_file_location("make", os.path.join(case, "make.py"))
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)
for name in make.CASES:
    try:
        items, studies, patients = prepared(name, make.make(name))
        statuses = send(items)
    except Exception as error:
        print(json.dumps({"name": name, "error": repr(error)}), flush=True)
        continue
    told = {"name": name, "studies": sorted(set(studies)), "patients": sorted(set(patients))}
    told |= {"instances": [it[1] for it in items], "statuses": statuses}
    print(json.dumps(told), flush=True)
