"""Sizes of the models, and functions that all parts of the set share."""

import json

import torch
from safetensors.torch import save_file

SEED = 4711

# Side of a patch in pixels, and of a merged patch, which has two patches per side.
PATCH = 6
FACTOR = 2 * PATCH
BOUNDS = {"min_pixels": 4 * FACTOR**2, "max_pixels": 12 * FACTOR**2}

TEXT = {
    "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 1, "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0, "max_position_embeddings": 4096,
}
SECTIONS = [2, 1, 1]
VISION = {
    "depth": 3, "hidden_size": 16, "intermediate_size": 20, "num_heads": 2, "in_channels": 3,
    "out_hidden_size": 32, "patch_size": PATCH, "spatial_merge_size": 2, "spatial_patch_size": PATCH,
    "temporal_patch_size": 2, "window_size": 4 * PATCH, "fullatt_block_indexes": [1],
    "tokens_per_second": 2, "hidden_act": "silu",
}
SAM = {
    "image_size": 96, "embed_dim": 8, "num_heads": 1, "stages": [1, 1, 2, 1],
    "global_att_blocks": [3], "window_spec": [8, 4, 4, 2], "bkg": [5, 5], "d_model": 32,
    "mlp_dim": 24,
}

MEAN = torch.tensor([0.485, 0.456, 0.406])
DEVIATION = torch.tensor([0.229, 0.224, 0.225])


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def save(path, tensors):
    """Writes tensors to a file, as contiguous copies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: it.detach().clone().contiguous() for name, it in tensors.items()}, path)


@torch.no_grad()
def randomize(module, seed):
    """Sets every parameter of a module to random values that bf16 can represent: norms around 1,
    biases around 0, and matrices that preserve the scale of their input."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in sorted(module.state_dict(keep_vars=True).items()):
        if not tensor.is_floating_point() or "inv_freq" in name:
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim == 1:
            values = 0.1 * noise + (1.0 if name.endswith("weight") else 0.0)
        elif "embed" in name or "token" in name or "gaussian" in name:
            values = 0.5 * noise
        else:
            values = noise / tensor[0].numel() ** 0.5
        tensor.data.copy_(values.bfloat16().float())


def as_bf16(state):
    return {name: it.bfloat16() for name, it in state.items() if it.is_floating_point()}


def normalized(pixels):
    """A picture `[H, W, 3]` of bytes as the input of SAM2, `[1, 3, H, W]`."""
    plane = (pixels.float() / 255 - MEAN) / DEVIATION
    return plane.permute(2, 0, 1).unsqueeze(0)
