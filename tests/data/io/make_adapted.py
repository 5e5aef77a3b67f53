"""Writes adapted.json: what Python makes of weights for other grids, windows and bands.

Needs torch. Position embeddings and tables go through torch's interpolate in the way of
mmsegmentation 1.2.2 (VisionTransformer, SwinTransformer); the stem follows the rule of timm 1.0
(adapt_input_conv): the sum for one band, else repeated and scaled by 3 / bands.
"""
import json
import math
import os

import torch
import torch.nn.functional as F

torch.manual_seed(0)


def numbers(tensor):
    return {'shape': list(tensor.shape), 'values': tensor.flatten().tolist()}


def position(tensor, height, width, front, mode):
    side = int(math.sqrt(tensor.shape[1] - front))
    grid = tensor[:, -side * side:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    corners = False if mode in ('bilinear', 'bicubic') else None
    grid = F.interpolate(grid, size=(height, width), mode=mode, align_corners=corners)
    return torch.cat([tensor[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def table(tensor, side):
    old = int(tensor.shape[0]**0.5)
    grid = tensor.permute(1, 0).reshape(1, tensor.shape[1], old, old)
    grid = F.interpolate(grid, size=(side, side), mode='bicubic')
    return grid.view(tensor.shape[1], side * side).permute(1, 0).contiguous()


def stem(weight, bands):
    if bands == 1:
        return weight.sum(dim=1, keepdim=True)
    repeated = weight.repeat(1, math.ceil(bands / 3), 1, 1)[:, :bands]
    return repeated * (3 / bands)


vit = torch.randn(1, 1 + 9, 4)
deit = torch.randn(1, 2 + 9, 4)
swin = torch.randn(49, 2)
conv = torch.randn(2, 3, 2, 2)
out = {
    'vit': numbers(vit),
    'vit_bicubic': numbers(position(vit, 2, 4, 1, 'bicubic')),
    'vit_bilinear': numbers(position(vit, 2, 4, 1, 'bilinear')),
    'deit': numbers(deit),
    'deit_bicubic': numbers(position(deit, 2, 4, 2, 'bicubic')),
    'swin': numbers(swin),
    'swin_window_3': numbers(table(swin, 5)),
    'stem': numbers(conv),
    **{f'stem_{bands}': numbers(stem(conv, bands)) for bands in (1, 2, 4, 7)},
}
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'adapted.json')
with open(path, 'w') as f:
    f.write('{\n' + ',\n'.join(f'"{k}": {json.dumps(v)}' for k, v in out.items()) + '\n}')
    f.write('\n')
