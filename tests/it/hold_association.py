"""A modality that stores a file, and releases its association after a line on standard input.

Arguments: port, file.
"""

import sys

from pydicom import dcmread
from pynetdicom import AE

port, path = int(sys.argv[1]), sys.argv[2]
data_set = dcmread(path)
modality = AE(ae_title="CT1")
modality.add_requested_context(data_set.SOPClassUID, data_set.file_meta.TransferSyntaxUID)
association = modality.associate("127.0.0.1", port, ae_title="ISOCENTER")
print(f"{association.send_c_store(data_set).Status:04x}", flush=True)
sys.stdin.readline()
association.release()
