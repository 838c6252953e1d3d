"""SAM2 in transformers: its names for all tensors, its configuration, and outputs for two prompts.

Its weights are those of the checkpoint that `sam` wrote to the set. The set does not have them
twice: tests rename the tensors of that checkpoint. Here, both models give the same outputs.
"""

import re

import torch
from safetensors.torch import load_file
from sam2.build_sam import build_sam2
from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel

from common import SAM, save, write
from sam import SIDE, WIDTHS, Sam, inputs

# The names of Facebook, as patterns, and what stands there in those of transformers, in this order.
NAMES = [
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
    (r"(_head|_mlps\.\d)\.layers\.0\.", r"\1.proj_in."),
    (r"(_head|_mlps\.\d)\.layers\.2\.", r"\1.proj_out."),
    (r"(_head|_mlps\.\d)\.layers\.1\.", r"\1.layers.0."),
    (r"\.norm(\d|_final)", r".layer_norm\1"),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.pe_layer\.positional_encoding_gaussian_matrix$", ".shared_embedding.positional_embedding"),
    # These tensors are the rows of one table.
    (r"\.point_embeddings\.\d\.", ".point_embed."),
]
# One tensor has two names.
TWICE = {"prompt_encoder.shared_embedding.positional_embedding":
         "shared_image_embedding.positional_embedding"}
FACEBOOK = ("image_encoder.", "sam_prompt_encoder.", "sam_mask_decoder.", "no_mem_embed")
OTHERS = ("vision_encoder.", "prompt_encoder.", "mask_decoder.", "shared_image_embedding.",
          "no_memory_embedding")


def names_of(name):
    """The names of a tensor in transformers."""
    for pattern, there in NAMES:
        name = re.sub(pattern, there, name)
    return [TWICE[name], name] if name in TWICE else [name]


def only_for_video():
    """The names of tensors that pictures do not need, of both. Layers that repeat are left out."""
    facebook = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu").state_dict()
    with torch.device("meta"):
        others = Sam2VideoModel(Sam2VideoConfig()).state_dict()
    names = [it for it in facebook if not it.startswith(FACEBOOK)]
    names += [it for it in others if not it.startswith(OTHERS)]
    first = [it for it in names if not re.search(r"layers\.[1-9]", it)]
    return list(dict.fromkeys(first))


def configuration():
    width, side = SAM["d_model"], SAM["image_size"]
    backbone = {
        "hidden_size": SAM["embed_dim"], "num_attention_heads": SAM["num_heads"],
        "image_size": [side, side], "blocks_per_stage": SAM["stages"],
        "embed_dim_per_stage": WIDTHS[::-1],
        "num_attention_heads_per_stage": [SAM["num_heads"] * 2**stage for stage in range(4)],
        "window_size_per_stage": SAM["window_spec"],
        "global_attention_blocks": SAM["global_att_blocks"],
        "window_positional_embedding_background_size": SAM["bkg"],
    }
    return Sam2Config(
        vision_config={
            "backbone_config": backbone, "backbone_channel_list": WIDTHS,
            "backbone_feature_sizes": [[SIDE * scale] * 2 for scale in (4, 2, 1)],
            "fpn_hidden_size": width},
        prompt_encoder_config={"hidden_size": width, "image_size": side},
        mask_decoder_config={"hidden_size": width, "mlp_dim": SAM["mlp_dim"]})


def renamed(state):
    """The same tensors with the names of transformers."""
    tensors = {}
    for name, it in state.items():
        for other in names_of(name):
            tensors[other] = torch.cat([tensors[other], it]) if other in tensors else it
    return tensors


def outputs(model, picture, prompt):
    """Masks, predicted overlaps and object scores: several masks, and a single one."""
    tensors = {}
    for kind, is_several in [("multi", True), ("single", False)]:
        # The model changes its inputs.
        given = {name: it.clone() for name, it in prompt.items()}
        out = model(pixel_values=picture, multimask_output=is_several, **given)
        tensors |= {f"{kind}_low_res_masks": out.pred_masks[0], f"{kind}_iou": out.iou_scores[0]}
        if is_several:
            tensors["multi_obj_logits"] = out.object_score_logits[0]
    return tensors


def assert_same(model, state, picture):
    """Fails unless both models give the same for a point."""
    facebook = Sam().float().eval()
    facebook.load_state_dict(state)
    coordinates, labels = torch.tensor([[[20.0, 33.0]]]), torch.tensor([[1]])
    sparse, dense = facebook.sam_prompt_encoder((coordinates, labels), None, None)
    masks, ious, _, _ = facebook.decode(facebook.encode_image(picture), sparse, dense, True)
    prompt = {"input_points": coordinates[None], "input_labels": labels[None]}
    found = outputs(model, picture, prompt)
    assert (found["multi_low_res_masks"] - masks).abs().max() < 1e-4
    assert (found["multi_iou"] - ious).abs().max() < 1e-5


@torch.no_grad()
def make(folder):
    state = load_file(folder / "ckpt/sam2_tiny_fb/model.safetensors")
    state = {name: it.float() for name, it in state.items()}
    settings = configuration()
    model = Sam2Model._from_config(settings, attn_implementation="eager").float().eval()
    model.load_state_dict(renamed(state))
    picture = inputs(folder, [0])
    assert_same(model, state, picture)
    write(folder / "ckpt/sam2_tiny_hf/config.json", settings.to_diff_dict())
    write(folder / "sam/fb_to_hf_names.json", {
        "map": {name: names_of(name) for name in state}, "not_used_for_images": only_for_video()})
    prompt = {"input_points": torch.tensor([[[[61.0, 30.0], [12.0, 80.0]]]]),
              "input_labels": torch.tensor([[[1, 0]]]),
              "input_boxes": torch.tensor([[[8.0, 15.0, 77.0, 90.0]]])}
    given = {name: it.clone() for name, it in prompt.items()}
    sparse, dense = model.prompt_encoder(**given, input_masks=None)
    save(folder / "sam/prompt_box_point.safetensors", {
        **prompt, "sparse_embeddings": sparse[0], "dense_embeddings": dense,
        **outputs(model, picture, prompt)})
    save(folder / "sam/prompt_none.safetensors", outputs(model, picture, {}))
