#!/usr/bin/env python3
"""Writes modern_encoders.tsv and modern_maps.tsv: what timm 1.0.31 says of its ConvNeXts, plain vision transformers and Hieras.

modern_encoders.tsv has, for each encoder without its classifier, the number of its parameters and the SHA-256 of its state
dict: rows `name<TAB>2x3x4<TAB>float32`, sorted, joined by newlines.

modern_maps.tsv has the maps of some of them, in evaluation mode and double precision, on an image and the weights of the
fixtures' formulas (segcore/testing/reference_values.hpp): encoder, output stride, height and width of the image and of the
images that position embeddings are for (0: as published), number of the map, its shape, mean, standard deviation, first and
last value.
"""

import os
import re

import timm
import torch
from reference_formulas import fill, image_of, map_columns, tensor_columns

HERE = os.path.dirname(os.path.abspath(__file__))
CLASSIFIER = r"(head|head_dist|fc_norm|norm_pre|attn_pool)\."
SIZES = "tiny|small|small_plus|medium|base|large|huge|huge_plus|giant|7b"
FAMILIES = (
    r"convnext(v2)?_(atto|femto|pico|nano|tiny|small|base|large|xlarge|xxlarge|huge)(_ols|_hnf|_mlp)?$"
    rf"|(vit|deit|deit3)_({SIZES})_patch\d+_(224|384)$|vit_({SIZES})_patch\d+(_reg4)?_dinov[23](_qkvb)?$"
    r"|hiera_(tiny|small|base|base_plus|large|huge)_224$"
)
MAPS = [  # encoder, output stride, image, image of the position embeddings
    ("convnext_atto_ols", 32, (80, 112), None),
    ("convnext_femto", 16, (80, 112), None),
    ("convnext_nano", 8, (80, 112), None),
    ("convnextv2_atto", 8, (80, 112), None),
    ("convnextv2_femto", 32, (75, 110), None),
    ("vit_tiny_patch16_224", 32, (80, 112), None),
    ("vit_small_patch32_384", 32, (96, 64), (160, 96)),
    ("deit3_small_patch16_224", 32, (80, 112), None),
    ("vit_tiny_patch16_dinov3_qkvb", 32, (80, 112), None),
    ("vit_small_plus_patch16_dinov3", 32, (48, 80), None),
    ("hiera_small_224", 32, (64, 96), (64, 96)),
]


def write_tensors():
    names = [n for n in timm.list_models() if re.match(FAMILIES, n) and n != "vit_giant_patch14_224"]
    with open(os.path.join(HERE, "modern_encoders.tsv"), "w") as out:
        for name in names:
            with torch.device("meta"):
                net = timm.create_model(name, pretrained=False)
            print("tu-" + name, *tensor_columns(net, CLASSIFIER), sep="\t", file=out)


def write_maps():
    # What timm computes in single precision by name is computed in double here.
    torch.Tensor.float = torch.Tensor.double
    with torch.no_grad(), open(os.path.join(HERE, "modern_maps.tsv"), "w") as out:
        for name, stride, size, positions in MAPS:
            options = dict(output_stride=stride) if stride < 32 else {}
            if positions:
                options["img_size"] = positions
            if name.startswith(("vit", "deit")):
                options["dynamic_img_size"] = True
            net = timm.create_model(name, pretrained=False, **options)
            fill(net, gain=1)
            image = image_of((1, 3, *size))
            maps = net.double().eval().forward_intermediates(image.double(), intermediates_only=True)
            for i, m in enumerate(maps):
                if len(maps) > 4 and i not in (0, len(maps) - 1):
                    continue
                print("tu-" + name, stride, *size, *(positions or (0, 0)), i + 1, *map_columns(m), sep="\t", file=out)


if __name__ == "__main__":
    write_tensors()
    write_maps()
