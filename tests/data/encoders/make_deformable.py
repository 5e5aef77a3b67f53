#!/usr/bin/env python3
"""Writes deformable_maps.tsv: the first two stages of torchvision 0.26.0's ResNet-50 and ResNeXt-50 with the deformable
convolutions of mmcv 2.1 (DCN: DeformConv2dPack, DCNv2: ModulatedDeformConv2dPack) by torchvision's operator.

Rows are options of the backbone, the SHA-256 of its state dict (rows `name<TAB>2x3x4<TAB>float32`, sorted, joined by
newlines), height and width of the image, number of the map, its shape, mean, standard deviation, first and last value: in
evaluation mode and double precision, on an image and the weights of the fixtures' formulas
(segcore/testing/reference_values.hpp). The last of each is the gradient of the image for the sum of the maps' mean squares.

`fallback_on_stride` of mmseg 1.2.2's ResNet holds for the first block that would be deformable: the block takes the option
out of a dict that it shares with all others.
"""

import json
import os

import torch
from reference_formulas import fill, image_of, map_columns, tensor_columns
from torchvision.models import resnet
from torchvision.ops import deform_conv2d

HERE = os.path.dirname(os.path.abspath(__file__))
PLAIN = dict(depth=50, num_stages=2, strides=[1, 2], dilations=[1, 1], out_indices=[0, 1])
GROUPS = dict(groups=32, base_width=4)
CONFIGS = [
    dict(type="ResNet", **PLAIN, dcn=dict(type="DCNv2"), stage_with_dcn=[False, True]),
    dict(type="ResNet", **PLAIN, dcn=dict(type="DCN", deform_groups=4), stage_with_dcn=[True, True]),
    dict(type="ResNet", **PLAIN, dcn=dict(type="DCNv2", fallback_on_stride=True), stage_with_dcn=[False, True]),
    dict(type="ResNeXt", **PLAIN, **GROUPS, dcn=dict(type="DCNv2", deform_groups=2), stage_with_dcn=[False, True]),
    dict(type="ResNeXt", **PLAIN, **GROUPS, dcn=dict(type="DCN"), stage_with_dcn=[False, True]),
]


class Deformable(torch.nn.Conv2d):
    def __init__(self, conv, modulated, deform_groups):
        sides = (conv.kernel_size, conv.stride, conv.padding)
        super().__init__(conv.in_channels, conv.out_channels, *sides, groups=conv.groups, bias=False)
        self.modulated = modulated
        out = deform_groups * (3 if modulated else 2) * 9
        self.conv_offset = torch.nn.Conv2d(conv.in_channels, out, *sides)

    def forward(self, x):
        moved, mask = self.conv_offset(x), None
        if self.modulated:
            first, second, mask = moved.chunk(3, 1)
            moved, mask = torch.cat([first, second], 1), mask.sigmoid()
        return deform_conv2d(x, moved, self.weight, None, self.stride, self.padding, mask=mask)


class Stages(torch.nn.Module):
    def __init__(self, options):
        super().__init__()
        grouped = dict(groups=options["groups"], width_per_group=options["base_width"]) if "groups" in options else {}
        whole = resnet.ResNet(resnet.Bottleneck, [3, 4, 6, 3], **grouped)
        self.conv1, self.bn1, self.layer1, self.layer2 = whole.conv1, whole.bn1, whole.layer1, whole.layer2
        dcn = options["dcn"]
        falls_back = dcn.get("fallback_on_stride", False)
        for layer, deforms in zip((self.layer1, self.layer2), options["stage_with_dcn"]):
            for block in layer:
                if not deforms:
                    continue
                if not falls_back:
                    block.conv2 = Deformable(block.conv2, dcn["type"] == "DCNv2", dcn.get("deform_groups", 1))
                falls_back = False

    def forward(self, x):
        x = torch.nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        x = self.layer1(x)
        return [x, self.layer2(x)]


if __name__ == "__main__":
    size = (40, 52)
    with open(os.path.join(HERE, "deformable_maps.tsv"), "w") as out:
        for options in CONFIGS:
            net = Stages(options)
            with torch.no_grad():
                fill(net, gain=1)
            digest = tensor_columns(net)[1]
            image = image_of((1, 3, *size)).double().requires_grad_()
            maps = net.double().eval()(image)
            sum(m.square().mean() for m in maps).backward()
            for i, m in enumerate([*maps, image.grad]):
                print(json.dumps(options), digest, *size, i, *map_columns(m.detach()), sep="\t", file=out)
