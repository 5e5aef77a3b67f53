#!/usr/bin/env python3
"""Writes classical_encoders.tsv and classical_maps.tsv: what timm 1.0.31, torchvision 0.26, pretrainedmodels 0.7.4 and
segmentation_models_pytorch 0.6.0 say of their DenseNets, ResNets, SENets, Inceptions and Xceptions.

classical_encoders.tsv has, for each encoder without its classifier, the number of its parameters and the SHA-256 of its state
dict: rows `name<TAB>2x3x4<TAB>float32`, sorted, joined by newlines.

classical_maps.tsv has the maps of some of them, in evaluation mode and double precision, on the image of 1x3x80x112 and the
weights of the fixtures' formulas (segcore/testing/reference_values.hpp): encoder, output stride, gain, number of the map, its
shape, mean, standard deviation, first and last value.
"""

import os
import re

import torch
from reference_formulas import fill, image_of, map_columns, tensor_columns

HERE = os.path.dirname(os.path.abspath(__file__))
FAMILIES = r"densenet(121|161|169|201)$|(se|eca|cbam_|wide_)?resne(t|xt)\d+|ecaresnetlight$|inception|legacy_xception$|xception(41|65|71)$"
LEFT_OUT = r"next_|clip|mlp|\dts$|\d\dq$|blur|aa|_gn$|pruned"
DEPTHS = (18, 34, 50, 101, 152)
TORCHVISION = (
    ["densenet121", "densenet161", "densenet169", "densenet201", "googlenet", "inception_v3"]
    + ["resnet%d" % d for d in DEPTHS]
    + ["resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"]
)
MAPS = [  # encoder, output stride, gain
    ("densenet201", 32, 1.0),
    ("tu-densenet161", 32, 1.0),
    ("tu-resnet26t", 32, 1.0),
    ("tu-resnet18d", 16, 1.0),
    ("tu-resnet50d", 8, 1.0),
    ("tu-resnet50s", 32, 1.0),
    ("tu-resnet18", 8, 1.0),
    ("tu-seresnet18", 32, 1.0),
    ("tu-seresnext26t_32x4d", 16, 1.0),
    ("tu-ecaresnetlight", 32, 1.0),
    ("tu-cbam_resnet18", 32, 1.0),
    ("tv-wide_resnet50_2", 32, 1.0),
    ("tv-resnet50", 8, 1.0),
    ("tv-resnext50_32x4d", 16, 1.0),
    ("resnet18", 8, 1.0),
    ("resnet50", 16, 1.0),
    ("se_resnet50", 8, 1.0),
    ("se_resnext50_32x4d", 32, 1.0),
    ("inceptionv4", 32, 2.0),
    ("inceptionresnetv2", 32, 2.0),
    ("tu-inception_resnet_v2", 32, 2.0),
    ("xception", 32, 1.0),
    ("tu-xception71", 32, 1.0),
    ("tu-xception41", 16, 1.0),
    ("tu-xception65", 8, 1.0),
]


class Maps(torch.nn.Module):
    """The maps of a classifier: what its modules of these names return."""

    def __init__(self, net, maps):
        super().__init__()
        self.net, self.maps = net, maps

    def forward(self, x):
        out = {}
        for name in self.maps:
            module = self.net.get_submodule(name)
            # A module that is called again elsewhere keeps its first output; later layers may work in place.
            module.register_forward_hook(lambda _m, _i, o, name=name: out.setdefault(name, o.clone()) is None or None)
        self.net(x)
        return [out[name] for name in self.maps]


def timm_names():
    import timm

    names = [n for n in timm.list_models() if re.match(FAMILIES, n) and not re.search(LEFT_OUT, n)]
    return sorted(names) + ["cbam_resnet%d" % d for d in DEPTHS]


def timm_net(name, stride):
    import timm

    options = {} if stride == 32 else dict(output_stride=stride)
    if name.startswith("cbam_"):
        name, options["block_args"] = name[5:], dict(attn_layer="cbam")
    net = timm.create_model(name, pretrained=False, **options)
    return net, [f["module"] for f in net.feature_info]


def torchvision_net(name, stride):
    import torchvision

    options = {}
    if name in ("googlenet", "inception_v3"):
        options = dict(aux_logits=False, init_weights=False)
    elif stride != 32:
        options = dict(replace_stride_with_dilation=[False, stride <= 8, stride <= 16])
    net = getattr(torchvision.models, name)(weights=None, **options)
    return net, ["relu", "layer1", "layer2", "layer3", "layer4"]


def build(name, stride=32):
    """The network, its maps by the names of modules (None: it returns the maps), and the beginnings of its classifier."""
    if name.startswith("tu-"):
        return *timm_net(name[3:], stride), r"fc\.|classifier\.|head\.|last_linear\.|classif\."
    if name.startswith("tv-"):
        return *torchvision_net(name[3:], stride), r"fc\.|classifier\."
    if name == "bninception":
        import pretrainedmodels

        return pretrainedmodels.bninception(pretrained=None), None, r"last_linear\."
    import segmentation_models_pytorch as smp

    return smp.encoders.get_encoder(name, weights=None, output_stride=stride), None, "-"


def smp_names():
    import segmentation_models_pytorch as smp

    return [n for n in smp.encoders.get_encoder_names() if re.match(r"(se_)?resne|senet|densenet|inception|xception$", n)]


def write_tensors():
    names = ["tu-" + n for n in timm_names()] + ["tv-" + n for n in TORCHVISION] + smp_names() + ["bninception"]
    with open(os.path.join(HERE, "classical_encoders.tsv"), "w") as out:
        for name in names:
            with torch.device("meta"):
                net, _, classifier = build(name)
            print(name, *tensor_columns(net, classifier), sep="\t", file=out)


def write_maps():
    image = image_of((1, 3, 80, 112))
    with torch.no_grad(), open(os.path.join(HERE, "classical_maps.tsv"), "w") as out:
        for name, stride, gain in MAPS:
            net, modules, _ = build(name, stride)
            fill(net, gain)
            net = (Maps(net, modules) if modules else net).eval()
            maps = net.double()(image.double())
            for i, m in enumerate(maps[-5:]):
                print(name, stride, gain, i + 1, *map_columns(m), sep="\t", file=out)


if __name__ == "__main__":
    write_tensors()
    write_maps()
