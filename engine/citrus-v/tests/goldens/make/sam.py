"""SAM2: the part for images, from the modules of the reference, with the names of Facebook."""

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from sam2.modeling.sam.transformer import TwoWayTransformer

from common import SAM, SEED, as_bf16, normalized, randomize, read, save, write
from pictures import SIZES, read_picture, resized_for_sam, to_tensor

WIDTHS = [SAM["embed_dim"] * 2**stage for stage in (3, 2, 1, 0)]
SIDE = SAM["image_size"] // 16


class Sam(torch.nn.Module):
    """The part of SAM2 that segments single pictures."""

    def __init__(self):
        super().__init__()
        width = SAM["d_model"]
        trunk = Hiera(
            embed_dim=SAM["embed_dim"], num_heads=SAM["num_heads"], stages=tuple(SAM["stages"]),
            global_att_blocks=tuple(SAM["global_att_blocks"]),
            window_pos_embed_bkg_spatial_size=tuple(SAM["bkg"]),
            window_spec=tuple(SAM["window_spec"]))
        position = PositionEmbeddingSine(width, warmup_cache=False)
        neck = FpnNeck(position, width, WIDTHS, fpn_top_down_levels=[2, 3],
                       fpn_interp_model="nearest")
        self.image_encoder = ImageEncoder(trunk, neck, scalp=1)
        self.sam_prompt_encoder = PromptEncoder(width, (SIDE, SIDE), (SAM["image_size"],) * 2, 16)
        self.sam_mask_decoder = MaskDecoder(
            transformer_dim=width,
            transformer=TwoWayTransformer(2, width, 8, SAM["mlp_dim"]),
            use_high_res_features=True, iou_prediction_use_sigmoid=True, pred_obj_scores=True,
            pred_obj_scores_mlp=True, dynamic_multimask_via_stability=True)
        self.no_mem_embed = torch.nn.Parameter(torch.zeros(1, 1, width))

    def encode_image(self, pictures):
        """The image embedding, and two maps of higher resolution."""
        finest, finer, middle = self.image_encoder(pictures)["backbone_fpn"]
        decoder = self.sam_mask_decoder
        return (middle + self.no_mem_embed.reshape(1, -1, 1, 1),
                [decoder.conv_s0(finest), decoder.conv_s1(finer)])

    def decode(self, image, sparse, dense, is_several):
        embedding, fine = image
        return self.sam_mask_decoder(
            image_embeddings=embedding, image_pe=self.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense,
            multimask_output=is_several, repeat_image=embedding.shape[0] != sparse.shape[0],
            high_res_features=fine)

    def decode_embeddings(self, image, vectors):
        """Masks for embeddings of the language model, `[n, width]`, one object for each."""
        count = vectors.shape[0]
        nowhere = (torch.zeros(count, 1, 2), -torch.ones(count, 1, dtype=torch.int32))
        sparse, dense = self.sam_prompt_encoder(points=nowhere, boxes=None, masks=None)
        sparse = torch.cat([sparse, vectors.unsqueeze(1)], 1)
        masks, ious, _, objects = self.decode(image, sparse, dense, True)
        best = ious.argmax(1)
        return masks, ious, objects, best, masks[torch.arange(count), best].unsqueeze(1), sparse


def random_model(seed):
    it = Sam().float().eval()
    randomize(it, seed)
    return it


def run_lengths(mask):
    """A mask of zeros and ones in the encoding of pycocotools."""
    found = coco.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
    return {"size": [int(it) for it in found["size"]], "counts": found["counts"].decode()}


def inputs(folder, indices):
    files = [it["file"] for it in read(folder / "qwen/preprocess.json")["images"]]
    pictures = [read_picture(folder / files[index]) for index in indices]
    squares = [to_tensor(resized_for_sam(it, SAM["image_size"])) for it in pictures]
    return torch.cat([normalized(it) for it in squares])


def points(objects):
    """Coordinates and labels of points, `[(x, y, label)]` for each object. A box is two points with
    labels 2 and 3."""
    coordinates = torch.tensor([[it[:2] for it in one] for one in objects]).float()
    labels = torch.tensor([[it[2] for it in one] for one in objects], dtype=torch.int32)
    return coordinates, labels


@torch.no_grad()
def encoder(folder, model, pictures):
    tensors = {}

    def recording(name):
        return lambda _module, _inputs, out: tensors.__setitem__(name, out[:1])

    hooks = [block.register_forward_hook(recording(f"block_{at}"))
             for at, block in enumerate(model.image_encoder.trunk.blocks)]
    embedding, fine = model.encode_image(pictures)
    for hook in hooks:
        hook.remove()
    tensors["fpn_level2"] = (embedding - model.no_mem_embed.reshape(1, -1, 1, 1))[:1]
    tensors |= {"image_embeddings": embedding, "high_res_s0": fine[0], "high_res_s1": fine[1],
                "dense_pe": model.sam_prompt_encoder.get_dense_pe()}
    save(folder / "sam/image_encoder.safetensors", tensors)
    return embedding, fine


@torch.no_grad()
def prompts(folder, model, image):
    side = SAM["image_size"]
    rough = torch.randn(1, 1, 4 * SIDE, 4 * SIDE, generator=torch.Generator().manual_seed(SEED))
    cases = {
        "points_pos_neg": ([[(30, 40, 1), (70, 11, 0), (5, 90, 1)]], None, None),
        "two_objects": ([[(20, 20, 1)], [(80, 60, 1)]], None, None),
        "box": (None, [[10.0, 20.0, 70.0, side - 1.0]], None),
        "mask": ([[(50, 50, 1)]], None, rough),
    }
    for name, (clicks, boxes, masks) in cases.items():
        corners = [[(*box[:2], 2), (*box[2:], 3)] for box in boxes or []]
        coordinates, labels = points(clicks or corners)
        sparse, dense = model.sam_prompt_encoder((coordinates, labels), None, masks)
        one = (image[0][:1], [it[:1] for it in image[1]])
        several, several_ious, _, objects = model.decode(one, sparse, dense, True)
        single, single_ious, _, _ = model.decode(one, sparse, dense, False)
        tensors = {
            "sparse_embeddings": sparse, "dense_embeddings": dense[:1],
            "multi_low_res_masks": several, "multi_iou": several_ious,
            "multi_obj_logits": objects, "single_low_res_masks": single,
            "single_iou": single_ious,
        }
        if clicks:
            tensors["input_points"] = coordinates.unsqueeze(0)
            tensors["input_labels"] = labels.unsqueeze(0)
        if boxes:
            tensors["input_boxes"] = torch.tensor([boxes])
        if masks is not None:
            tensors["input_masks"] = masks
        save(folder / f"sam/prompt_{name}.safetensors", tensors)


@torch.no_grad()
def vectors(folder, model, image):
    """Writes the masks of one random embedding for each of two pictures."""
    width, side = SAM["d_model"], SAM["image_size"]
    lang = torch.randn(2, 1, width, generator=torch.Generator().manual_seed(SEED + 3))
    masks, ious, objects, which, best, sparse = model.decode_embeddings(image, lang[:, 0])
    large = torch.nn.functional.interpolate(best[:1], (side, side), mode="bilinear")
    tensors = {"lang": lang, "sparse": sparse, "low_res_multimasks": masks, "ious": ious,
               "obj_logits": objects, "best_idx": which, "best_low_res": best,
               "high_res_image0": large}
    about = []
    for index in range(2):
        mask = (best[index, 0] > 0).to(torch.uint8)
        near = Image.fromarray(mask.numpy()).resize(SIZES[index][:2], Image.Resampling.NEAREST)
        near = to_tensor(near)
        tensors |= {f"mask_{index}": mask, f"mask_orig_nearest_{index}": near}
        about.append({"rle_low_res": run_lengths(mask),
                      "rle_original_size_nearest": run_lengths(near)})
    save(folder / "sam/language_prompt.safetensors", tensors)
    write(folder / "sam/language_prompt.json", {"masks": about})


def make(folder):
    model = random_model(SEED + 100)
    place = folder / "ckpt/sam2_tiny_fb"
    write(place / "config.json", SAM)
    save(place / "model.safetensors", as_bf16(model.state_dict()))
    image = encoder(folder, model, inputs(folder, [0, 1]))
    prompts(folder, model, image)
    vectors(folder, model, image)
