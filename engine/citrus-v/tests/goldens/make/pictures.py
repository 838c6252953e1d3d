"""Pictures, their preprocessing for both networks, and run-length encoded masks."""

import hashlib

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco
from qwen_vl_utils.vision_process import smart_resize

from common import BOUNDS, FACTOR, PATCH, SAM, SEED, normalized, save, write

SIZES = [(90, 70, "RGB"), (61, 117, "L"), (75, 40, "RGBA")]


def random_picture(width, height, mode, seed):
    """A random picture of waves, discs and noise."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    planes = []
    for _ in range(3):
        slope, phase = generator.uniform(0.02, 0.2, 2), generator.uniform(0, 6)
        planes.append(128 + 60 * np.sin(slope[0] * rows + slope[1] * columns + phase))
    picture = np.stack(planes, -1)
    for _ in range(4):
        y = generator.uniform(0, height)
        x = generator.uniform(0, width)
        radius = generator.uniform(5, 20)
        picture[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] += generator.uniform(-80, 80, 3)
    picture = np.clip(picture + generator.normal(0, 9, picture.shape), 0, 255).astype(np.uint8)
    if mode == "L":
        return Image.fromarray(picture[..., 0], "L")
    if mode == "RGBA":
        alpha = (255 * columns / max(width - 1, 1)).astype(np.uint8)
        return Image.fromarray(np.concatenate([picture, alpha[..., None]], -1), "RGBA")
    return Image.fromarray(picture, "RGB")


def read_picture(path):
    """The picture of a file in RGB, on white where it is transparent."""
    picture = Image.open(path)
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    white = Image.new("RGB", picture.size, (255, 255, 255))
    white.paste(picture, mask=picture.split()[3])
    return white


def resized_for_qwen(picture):
    """The picture at the size for the vision encoder."""
    height, width = smart_resize(picture.height, picture.width, factor=FACTOR, **BOUNDS)
    return picture.resize((width, height))


def resized_for_sam(picture, side):
    """The picture at the size for SAM2."""
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def to_tensor(picture):
    return torch.from_numpy(np.array(picture))


def patches(picture):
    """Patches and grid of a picture, from the processor of the reference."""
    from transformers import Qwen2VLImageProcessor

    processor = Qwen2VLImageProcessor(
        patch_size=PATCH, merge_size=2, temporal_patch_size=2, do_resize=False, **BOUNDS)
    out = processor(images=[picture], return_tensors="pt")
    return out["pixel_values"], out["image_grid_thw"]


def sizes():
    generator = np.random.default_rng(SEED + 1)
    cases = []
    for _ in range(60):
        height, width = (int(it) for it in generator.integers(5, 1500, 2))
        if max(height, width) / min(height, width) > 150:
            continue
        low, high = [(3136, 65535), (200704, 1003520), (3136, 12845056)][len(cases) % 3]
        found = smart_resize(height, width, factor=28, min_pixels=low, max_pixels=high)
        cases.append({"hw": [height, width], "min": low, "max": high,
                      "qwen_vl_utils": list(found)})
    return cases


def run_lengths():
    generator = np.random.default_rng(SEED + 2)
    cases = []
    for height, width in [(1, 1), (3, 5), (17, 4), (24, 24), (40, 33)]:
        for kind, share in [("empty", 0.0), ("full", 1.0), ("noise", 0.4)]:
            mask = (generator.random((height, width)) < share).astype(np.uint8)
            counts = coco.encode(np.asfortranarray(mask))["counts"].decode()
            column = mask.T.flatten()
            edges = np.flatnonzero(np.diff(np.concatenate([[0], column])))
            runs = np.diff(np.concatenate([[0], edges, [column.size]]))
            cases.append({
                "h": height, "w": width, "kind": kind, "counts": counts,
                "uncompressed": [int(it) for it in runs],
                "packed_rows_hex": np.packbits(mask.flatten()).tobytes().hex(),
            })
    return cases


def make(folder):
    (folder / "images").mkdir(parents=True)
    about, square_about, tensors, squares, rows, grids = [], [], {}, {}, [], []
    for index, (width, height, mode) in enumerate(SIZES):
        name = f"images/picture{index}.png"
        random_picture(width, height, mode, SEED + 10 * index).save(folder / name)
        picture = read_picture(folder / name)
        small = resized_for_qwen(picture)
        tensors[f"rgb_u8_{index}"] = to_tensor(picture)
        tensors[f"resized_u8_{index}"] = to_tensor(small)
        row, grid = patches(small)
        rows.append(row)
        grids.append(grid)
        about.append({"file": name, "mode": mode, "wh": [width, height],
                      "resized_wh": list(small.size)})
        square = resized_for_sam(picture, SAM["image_size"])
        digest = lambda it: hashlib.sha256(it.tobytes()).hexdigest()
        squares[f"u8_{index}"] = to_tensor(square)
        square_about.append({"image": name, "sha256_u8": digest(square),
                             "sha256_u8_1024": digest(resized_for_sam(picture, 1024))})
    squares["normalized_0_every4th_row"] = normalized(squares["u8_0"])[:, :, ::4]
    tensors["pixel_values"] = torch.cat(rows)
    tensors["image_grid_thw"] = torch.cat(grids)
    save(folder / "qwen/preprocess.safetensors", tensors)
    write(folder / "qwen/preprocess.json",
          {"images": about, **BOUNDS, "smart_resize_cases": sizes()})
    save(folder / "sam/preprocess.safetensors", squares)
    write(folder / "sam/preprocess.json", square_about)
    write(folder / "sam/rle.json", {"cases": run_lengths()})
