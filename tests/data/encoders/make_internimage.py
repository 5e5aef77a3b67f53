#!/usr/bin/env python3
"""Writes internimage.tsv and internimage_maps.tsv: what OpenGVLab/InternImage at 31c962d says of its backbones.

    make_internimage.py CHECKOUT/segmentation

Of the other packages that its file imports only timm 1.0.31 is needed: what it takes from mmcv and mmseg, the registry, the
log and the reading of weights, is not called here.

internimage.tsv has, for each published size, its name, its options, the number of its parameters and the SHA-256 of its state
dict: rows `name<TAB>2x3x4<TAB>float32`, sorted, joined by newlines.

internimage_maps.tsv has the maps of small ones of each kind, by the operator in PyTorch (DCNv3_pytorch), in evaluation mode
and double precision, on an image and the weights of the fixtures' formulas (segcore/testing/reference_values.hpp): options,
height and width of the image, number of the map, its shape, mean, standard deviation, first and last value. The last of each
is the gradient of the image for the sum of the maps' mean squares.
"""

import functools
import json
import os
import sys
import types

import torch
from reference_formulas import fill, image_of, map_columns, tensor_columns

HERE = os.path.dirname(os.path.abspath(__file__))
GIANT = dict(
    dw_kernel_size=5,
    res_post_norm=True,
    level2_post_norm=True,
    center_feature_scale=True,
)
SIZES = {
    "t": dict(channels=64, depths=[4, 4, 18, 4], groups=[4, 8, 16, 32], layer_scale=1.0),
    "s": dict(channels=80, depths=[4, 4, 21, 4], groups=[5, 10, 20, 40], layer_scale=1.0, post_norm=True),
    "b": dict(channels=112, depths=[4, 4, 21, 4], groups=[7, 14, 28, 56], layer_scale=1.0, post_norm=True),
    "l": dict(channels=160, depths=[5, 5, 22, 5], groups=[10, 20, 40, 80], layer_scale=1.0, offset_scale=2.0, post_norm=True),
    "xl": dict(channels=192, depths=[5, 5, 24, 5], groups=[12, 24, 48, 96], layer_scale=1.0, offset_scale=2.0, post_norm=True),
    "h": dict(
        channels=320, depths=[6, 6, 32, 6], groups=[10, 20, 40, 80], level2_post_norm_block_ids=[5, 11, 17, 23, 29], **GIANT
    ),
}
SMALL = [
    dict(channels=16, depths=[1, 2, 2, 1], groups=[2, 4, 8, 4], layer_scale=0.5),
    dict(channels=16, depths=[1, 1, 2, 1], groups=[1, 2, 4, 8], layer_scale=1.0, offset_scale=2.0, post_norm=True, act_layer="SiLU"),
    dict(channels=16, depths=[1, 1, 3, 1], groups=[2, 4, 8, 16], mlp_ratio=2.5, level2_post_norm_block_ids=[0, 2], **GIANT),
    dict(channels=8, depths=[2, 1, 1], groups=[2, 2, 4], norm_layer="BN", act_layer="ReLU", post_norm=True, out_indices=[0, 2]),
]


def module(name, **members):
    made = types.ModuleType(name)
    vars(made).update(members)
    sys.modules[name] = made
    return made


def import_backbone(folder):
    sys.path.insert(0, folder)
    registry = types.SimpleNamespace(register_module=lambda: lambda cls: cls)
    logger = types.SimpleNamespace(info=lambda text: None)
    for name in ("mmcv", "mmseg", "mmseg.models", "DCNv3"):
        module(name)
    module("mmcv.cnn", constant_init=None, trunc_normal_init=None)
    module("mmcv.runner", _load_checkpoint=None)
    module("mmseg.models.builder", BACKBONES=registry)
    module("mmseg.utils", get_root_logger=lambda: logger)
    sys.modules["pkg_resources"] = types.SimpleNamespace(
        get_distribution=lambda name: types.SimpleNamespace(version="1.1")
    )
    sys.path.insert(0, os.path.join(folder, "mmseg_custom", "models", "backbones"))
    import intern_image
    from ops_dcnv3 import modules
    from ops_dcnv3.functions import dcnv3_func

    # Places are computed in double precision, too.
    dcnv3_func.torch = types.SimpleNamespace(**{**vars(torch), "float32": torch.float64})

    class Core(modules.dcnv3.DCNv3_pytorch):
        def __init__(self, *args, use_dcn_v4_op=False, **kwargs):
            super().__init__(*args, **kwargs)

    modules.DCNv3_pytorch = intern_image.dcnv3.DCNv3_pytorch = Core
    return intern_image.InternImage


def write_sizes(backbone):
    with open(os.path.join(HERE, "internimage.tsv"), "w") as out:
        for name, options in SIZES.items():
            # Rates of stochastic depth are numbers, which there are none of on that device.
            sys.modules["intern_image"].torch = types.SimpleNamespace(
                **{**vars(torch), "linspace": functools.partial(torch.linspace, device="cpu")}
            )
            with torch.device("meta"):
                net = backbone(core_op="DCNv3", **options)
            row = json.dumps(dict(type="InternImage", **options))
            print(name, row, *tensor_columns(net), sep="\t", file=out)


def write_maps(backbone):
    size = (70, 93)
    with open(os.path.join(HERE, "internimage_maps.tsv"), "w") as out:
        for options in SMALL:
            net = backbone(core_op="DCNv3_pytorch", **options)
            with torch.no_grad():
                fill(net, gain=1)
            image = image_of((1, 3, *size)).double().requires_grad_()
            net.double().eval()  # whose `train` returns nothing
            maps = net(image)
            sum(m.square().mean() for m in maps).backward()
            for i, m in enumerate([*maps, image.grad]):
                row = json.dumps(dict(type="InternImage", **options))
                print(row, *size, i, *map_columns(m.detach()), sep="\t", file=out)


if __name__ == "__main__":
    made = import_backbone(sys.argv[1])
    write_sizes(made)
    write_maps(made)
