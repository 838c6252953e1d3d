"""Sends the DICOM files of a folder unchanged, and prints the status and UID of each.

usage: send_all.py FOLDER HOST:PORT
"""
import os
import sys
import warnings

import pydicom
from pynetdicom import AE
from pynetdicom.dsutils import encode
from pynetdicom.presentation import build_context

warnings.simplefilter("ignore")
folder, address = sys.argv[1:]
host, port = address.rsplit(":", 1)

by_context = {}
for root, _, names in os.walk(folder):
    for name in sorted(names):
        path = os.path.join(root, name)
        try:
            data = pydicom.dcmread(path)
            key = (str(data.file_meta.MediaStorageSOPClassUID), str(data.file_meta.TransferSyntaxUID))
            if data.get("SOPInstanceUID"):
                by_context.setdefault(key, []).append(path)
        except Exception:
            continue

for (sop_class, syntax), paths in by_context.items():
    ae = AE(ae_title="CT1")
    ae.requested_contexts = [build_context(sop_class, [syntax])]
    association = ae.associate(host, int(port), ae_title="ISOCENTER")
    for path in paths:
        data = pydicom.dcmread(path)
        status = "REFUSED"
        if association.is_established and association.accepted_contexts:
            try:
                answer = association.send_c_store(data)
                status = f"{answer.Status:04X}" if "Status" in answer else "NONE"
            except Exception:
                continue
        if status != "REFUSED":
            print(status, data.SOPInstanceUID)
    if association.is_established:
        association.release()
