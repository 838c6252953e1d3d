"""Makes the small set of the project: inputs and outputs of the reference implementations.

    python run.py FOLDER

The folder is removed first. The seeds determine the set: with the package versions of
requirements.txt, every run makes the same files.
"""

import hashlib
import json
import pathlib
import shutil
import sys
from importlib.metadata import version

import torch

import citrus
import pictures
import qwen
import sam

PACKAGES = [line.split("==")[0] for line in
            pathlib.Path(__file__).with_name("requirements.txt").read_text().splitlines()
            if "==" in line]


def manifest(folder):
    """The versions of all packages, and the digest of every file."""
    files = sorted(it for it in folder.rglob("*") if it.is_file())
    return {
        "set": "own",
        "versions": {name: version(name) for name in PACKAGES},
        "files": {str(it.relative_to(folder)): hashlib.sha256(it.read_bytes()).hexdigest()
                  for it in files},
    }


def main():
    folder = pathlib.Path(sys.argv[1])
    if folder.exists():
        shutil.rmtree(folder)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    pictures.make(folder)
    qwen.make(folder)
    sam.make(folder)
    citrus.make(folder)
    (folder / "MANIFEST.json").write_text(json.dumps(manifest(folder), indent=1) + "\n")


if __name__ == "__main__":
    main()
