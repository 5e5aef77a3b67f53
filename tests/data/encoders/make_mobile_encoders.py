#!/usr/bin/env python3
"""Writes mobile_encoders.tsv and mobile_maps.tsv: what timm 1.0.31, torchvision 0.26, ultralytics 8.4 and
segmentation_models_pytorch 0.6.0 say of their mobile networks, EfficientNets, ShuffleNets and YOLO backbones.

mobile_encoders.tsv has, for each encoder without its classifier, the number of its parameters, the SHA-256 of its state dict
(rows `name<TAB>2x3x4<TAB>float32`, sorted, joined by newlines), and the addresses of its weights, the default first.

mobile_maps.tsv has the maps of some of them, in evaluation mode and double precision, on the image of 1x3x64x96 and the
weights of the fixtures' formulas (segcore/testing/reference_values.hpp): encoder, output stride, gain, number of the map, its
shape, mean, standard deviation, first and last value.
"""

import os

import torch
from reference_formulas import fill, image_of, map_columns, tensor_columns

HERE = os.path.dirname(os.path.abspath(__file__))

EFFICIENTNETS = ["b%d" % i for i in range(8)]
TIMM = (
    ["mobilenetv1_100", "mobilenetv1_100h", "mobilenetv1_125"]
    + ["mobilenetv2_" + w for w in ("035", "050", "075", "100", "110d", "120d", "140")]
    + ["mobilenetv3_" + w for w in ("large_075", "large_100", "large_150d", "small_050", "small_075", "small_100")]
    + ["tf_mobilenetv3_%s_%s" % (s, w) for s in ("large", "small") for w in ("075", "100", "minimal_100")]
    + ["mobilenetv4_conv_" + w for w in ("small_035", "small_050", "small", "medium", "large")]
    + ["mobilenetv4_hybrid_medium", "mobilenetv4_hybrid_large"]
    + ["efficientnet_" + s for s in EFFICIENTNETS + ["b8", "l2"]]
    + ["tf_efficientnet_" + s for s in EFFICIENTNETS + ["b8", "l2"]]
    + ["tf_efficientnet_lite%d" % i for i in range(5)]
    + [p + "efficientnetv2_" + s for p in ("", "tf_") for s in "sml"]
)
TORCHVISION = (
    ["efficientnet_" + s for s in EFFICIENTNETS + ["v2_s", "v2_m", "v2_l"]]
    + ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"]
    + ["shufflenet_v2_x" + w for w in ("0_5", "1_0", "1_5", "2_0")]
)
SMP = (
    ["mobilenet_v2"]
    + ["efficientnet-" + s for s in EFFICIENTNETS]
    + ["timm-efficientnet-" + s for s in EFFICIENTNETS + ["b8", "l2"]]
    + ["timm-tf_efficientnet_lite%d" % i for i in range(5)]
    + ["timm-mobilenetv3_%s_%s" % (s, w) for s in ("large", "small") for w in ("075", "100", "minimal_100")]
)
ULTRALYTICS = ["yolov" + s for s in "5n 5s 5m 5l 5x 8n 8s 8m 8l 8x 9t 9s 9m 9c 9e".split()]
MAPS = [  # encoder, output stride, gain
    ("tu-mobilenetv1_125", 32, 2.0),
    ("tu-mobilenetv1_100", 16, 2.0),
    ("tu-mobilenetv2_120d", 32, 1.4),
    ("tu-mobilenetv2_050", 8, 1.4),
    ("tu-mobilenetv3_small_050", 32, 1.5),
    ("tu-mobilenetv3_large_150d", 16, 1.5),
    ("tu-tf_mobilenetv3_large_minimal_100", 32, 1.5),
    ("tu-mobilenetv4_conv_medium", 16, 1.4),
    ("tu-mobilenetv4_hybrid_medium", 32, 1.4),
    ("tu-mobilenetv4_hybrid_large", 32, 1.4),
    ("tu-efficientnet_b2", 32, 2.0),
    ("tu-efficientnet_b0", 8, 2.0),
    ("tu-tf_efficientnet_b1", 32, 2.0),
    ("tu-tf_efficientnet_lite1", 32, 2.0),
    ("tu-efficientnetv2_s", 16, 1.4),
    ("tv-efficientnet_b1", 32, 2.0),
    ("tv-efficientnet_b5", 32, 2.0),
    ("tv-efficientnet_v2_m", 32, 1.4),
    ("tv-mobilenet_v3_small", 32, 1.5),
    ("tv-mobilenet_v3_large", 16, 1.5),
    ("tv-shufflenet_v2_x0_5", 32, 1.4),
    ("tv-shufflenet_v2_x1_5", 32, 1.4),
    ("mobilenet_v2", 8, 1.4),
    ("efficientnet-b0", 16, 2.0),
    ("efficientnet-b0", 8, 2.0),
    ("efficientnet-b2", 32, 2.0),
    ("timm-efficientnet-b1", 32, 2.0),
    ("timm-efficientnet-b0", 8, 2.0),
    ("timm-tf_efficientnet_lite0", 32, 2.0),
    ("timm-mobilenetv3_small_075", 32, 1.5),
    ("yolov5n", 32, 2.0),
    ("yolov5n-dcn", 32, 2.0),
    ("yolov8m", 32, 2.0),
    ("yolov9t", 32, 2.0),
    ("yolov9m", 32, 2.0),
    ("yolov9e", 32, 2.0),
]


class Deformable(torch.nn.Conv2d):
    """mmcv's ModulatedDeformConv2dPack, by torchvision's operator."""

    def __init__(self, conv):
        super().__init__(conv.in_channels, conv.out_channels, 3, conv.stride, conv.padding, bias=False)
        self.conv_offset = torch.nn.Conv2d(conv.in_channels, 27, 3, conv.stride, conv.padding)

    def forward(self, x):
        from torchvision.ops import deform_conv2d

        first, second, mask = self.conv_offset(x).chunk(3, 1)
        return deform_conv2d(x, torch.cat([first, second], 1), self.weight, None, self.stride, self.padding,
                             mask=mask.sigmoid())


class Layers(torch.nn.Module):
    """The backbone of a detector, and the numbers of the layers whose outputs are its maps."""

    def __init__(self, name):
        super().__init__()
        from ultralytics.nn.modules.block import Bottleneck
        from ultralytics.nn.tasks import DetectionModel

        detector = DetectionModel(cfg=name.replace("-dcn", "") + ".yaml", ch=3, nc=80, verbose=False)
        count = len(detector.yaml["backbone"])
        self.model = detector.model[:count]
        self.maps = [16, 19, 22, 25, 29] if name == "yolov9e" else [0, 2, 4, 6, 9]
        if name.endswith("-dcn"):
            for block in self.model.modules():
                if isinstance(block, Bottleneck):
                    block.cv2.conv = Deformable(block.cv2.conv)

    def forward(self, x):
        done = []
        for layer in self.model:
            f = layer.f
            if isinstance(f, int):
                inputs = (x if layer.i == 0 else done[-1]) if f == -1 else done[f]
            else:
                inputs = [done[j] for j in f]
            done.append(layer(inputs))
        return [done[i] for i in self.maps]


class Torchvision(torch.nn.Module):
    """A classifier's modules without the classifier."""

    def __init__(self, name, stride):
        super().__init__()
        import torchvision

        if stride == 16:  # as torchvision's models for segmentation take it
            net = getattr(torchvision.models, name)(weights=None, dilated=True)
        else:
            net = getattr(torchvision.models, name)(weights=None)
        for child, module in net.named_children():
            if child not in ("classifier", "fc", "avgpool"):
                setattr(self, child, module)
        if name.startswith("shufflenet"):
            self.maps = ["conv1", "maxpool", "stage2", "stage3", "conv5"]
        elif name.startswith("mobilenet_v3"):
            ends = dict(mobilenet_v3_large=[1, 3, 6, 12, 16], mobilenet_v3_small=[0, 1, 3, 8, 12])[name]
            self.maps = ["features.%d" % i for i in ends]
        else:
            last = len(self.features) - 1
            self.maps = ["features.%d" % i for i in [1, 2, 3, 5, last]]

    def forward(self, x):
        out = []
        hooks = [dict(self.named_modules())[m].register_forward_hook(lambda _m, _i, o: out.append(o)) for m in self.maps]
        for child in self.children():
            x = child(x)
        for hook in hooks:
            hook.remove()
        return out


def build(name, stride=32):
    if name.startswith("tu-"):
        import timm

        return timm.create_model(name[3:], features_only=True, pretrained=False, output_stride=stride)
    if name.startswith("tv-"):
        return Torchvision(name[3:], stride)
    if name.startswith("yolo"):
        return Layers(name)
    import segmentation_models_pytorch as smp

    return smp.encoders.get_encoder(name, weights=None, output_stride=stride)


def addresses(name):
    if name.startswith("tu-") or name.startswith("timm-mobilenetv3"):
        from timm.models import _registry

        model = name[3:] if name.startswith("tu-") else name.replace("timm-", "tf_")
        cfgs = _registry._model_default_cfgs[model]
        tags = [tag for tag in cfgs.tags if cfgs.cfgs[tag].hf_hub_id]
        return ["https://huggingface.co/timm/%s.%s/resolve/main/model.safetensors" % (model, tag) for tag in tags]
    if name.startswith("tv-"):
        import torchvision

        enum = torchvision.models.get_model_weights(name[3:])
        return [enum.DEFAULT.url] + [w.url for w in enum if w is not enum.DEFAULT]
    if name.startswith("yolo"):
        return []
    from segmentation_models_pytorch.encoders import encoders

    return [
        "https://huggingface.co/%s/resolve/%s/model.safetensors" % (s["repo_id"], s["revision"])
        for s in encoders[name]["pretrained_settings"].values()
    ]


def main():
    names = (["tu-" + n for n in TIMM] + ["tv-" + n for n in TORCHVISION] + SMP + ULTRALYTICS)
    with open(os.path.join(HERE, "mobile_encoders.tsv"), "w") as out:
        for name in names:
            with torch.device("meta") if not name.startswith("yolo") else torch.device("cpu"):
                net = build(name)
            print(name, *tensor_columns(net), " ".join(addresses(name)), sep="\t", file=out)
    image = image_of((1, 3, 64, 96))
    with torch.no_grad(), open(os.path.join(HERE, "mobile_maps.tsv"), "w") as out:
        for name, stride, gain in MAPS:
            net = build(name, stride).eval()
            fill(net, gain)
            maps = net.double()(image.double())
            for i, m in enumerate(maps[1:] if len(maps) == 6 else maps):
                print(name, stride, gain, i + 1, *map_columns(m), sep="\t", file=out)


if __name__ == "__main__":
    main()
