"""Makes the small set of the project: inputs and outputs of the reference implementations.

    python run.py FOLDER
    python run.py FOLDER PART...

Without parts, the folder is removed first. With parts (the modules named in PARTS, in this order),
only their files are made anew, from what is in the folder.

The seeds determine the set: with the package versions of requirements.txt, every run on the same
processor makes the same files. Another processor may round the last bits differently, but weights,
pictures and tokens are the same.
"""

import hashlib
import json
import pathlib
import shutil
import sys
from importlib.metadata import version

import torch

import citrus
import hugging_face
import pictures
import qwen
import sam
import training

PARTS = {"pictures": pictures, "qwen": qwen, "sam": sam, "citrus": citrus,
         "training": training, "hugging_face": hugging_face}
PACKAGES = [line.split("==")[0] for line in
            pathlib.Path(__file__).with_name("requirements.txt").read_text().splitlines()
            if "==" in line]


def manifest(folder):
    """The versions of all packages, and the digest of every file."""
    files = sorted(it for it in folder.rglob("*") if it.is_file() and it.name != "MANIFEST.json")
    return {
        "set": "own",
        "versions": {name: version(name) for name in PACKAGES},
        "files": {str(it.relative_to(folder)): hashlib.sha256(it.read_bytes()).hexdigest()
                  for it in files},
    }


def main():
    folder, parts = pathlib.Path(sys.argv[1]), sys.argv[2:]
    if folder.exists() and not parts:
        shutil.rmtree(folder)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in parts or PARTS:
        PARTS[name].make(folder)
    (folder / "MANIFEST.json").write_text(json.dumps(manifest(folder), indent=1) + "\n")


if __name__ == "__main__":
    main()
