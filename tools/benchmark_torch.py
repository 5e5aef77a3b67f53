#!/usr/bin/env python3
"""A training step of a model written in torch.nn alone, for a Python without MMSegmentation.

    python tools/benchmark_torch.py fcn_r50|segformer_b0|segformer_b2 [--shape H W] [--batch-size N] [--iters N]
        [--warmup N] [--device NAME] [--bf16] [--channels-last] [--compile]

The models have the layers of configs/fcn/r50_ade20k.yaml, configs/segformer/b0_ade20k.yaml and b2_ade20k.yaml: the same
parameters, losses and optimisers. Prints one line of JSON with the keys of tools/benchmark.
"""
import argparse
import json
import resource
import sys
import time

try:
    import torch
except ModuleNotFoundError as error:
    print(f"error: {sys.executable} has no module '{error.name}'", file=sys.stderr)
    sys.exit(77)
import torch.nn.functional as F
from torch import nn

CLASSES, IGNORED = 150, 255
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # ImageNet, RGB, 0..255


def conv_bn(inputs, outputs, kernel=3, stride=1, dilation=1, relu=True):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.ReLU(inplace=True)] if relu else []))


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride, dilation):
        super().__init__()
        self.body = nn.Sequential(conv_bn(inputs, width, 1), conv_bn(width, width, 3, stride, dilation),
                                  conv_bn(width, 4 * width, 1, relu=False))
        same = inputs == 4 * width and stride == 1
        self.shortcut = nn.Identity() if same else conv_bn(inputs, 4 * width, 1, stride, relu=False)

    def forward(self, x):
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class FcnR50(nn.Module):
    """ResNetV1c-50 of output stride 8 with FCNHead and an auxiliary FCNHead."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, 32, 3, 2), conv_bn(32, 32), conv_bn(32, 64), nn.MaxPool2d(3, 2, 1))
        inputs, self.stages = 64, nn.ModuleList()
        for blocks, width, stride, dilation, first in ((3, 64, 1, 1, 1), (4, 128, 2, 1, 1),
                                                       (6, 256, 1, 2, 1), (3, 512, 1, 4, 2)):
            layers = []
            for i in range(blocks):  # the first block of a stage has half the dilation
                layers.append(Bottleneck(inputs, width, stride if i == 0 else 1, first if i == 0 else dilation))
                inputs = 4 * width
            self.stages.append(nn.Sequential(*layers))
        self.convs = nn.Sequential(conv_bn(2048, 512), conv_bn(512, 512))
        self.conv_cat = conv_bn(2048 + 512, 512)
        self.conv_seg = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(512, CLASSES, 1))
        self.auxiliary = nn.Sequential(conv_bn(1024, 256), nn.Dropout2d(0.1), nn.Conv2d(256, CLASSES, 1))

    def forward(self, x):
        x = self.stem(x)
        for stage in self.stages[:3]:
            x = stage(x)
        auxiliary = self.auxiliary(x)
        x = self.stages[3](x)
        return [(1.0, self.conv_seg(self.conv_cat(torch.cat([x, self.convs(x)], 1)))), (0.4, auxiliary)]

    def optimizer(self):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)


def drop_path(x, rate):
    kept = torch.rand(x.shape[0], 1, 1, device=x.device) >= rate
    return x * kept.to(x.dtype) / (1 - rate) if rate > 0 else x


class MixBlock(nn.Module):
    def __init__(self, width, heads, reduction, rate):
        super().__init__()
        self.heads, self.rate = heads, rate
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)
        self.reduce = nn.Conv2d(width, width, reduction, reduction) if reduction > 1 else None
        self.reduce_norm = nn.LayerNorm(width, eps=1e-6) if reduction > 1 else None
        self.expand, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.depthwise = nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)

    def forward(self, x, h, w):  # x: [N, h*w, C]
        def as_map(tokens):
            return tokens.transpose(1, 2).unflatten(2, (h, w))

        def by_head(tokens):
            return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)

        y = self.norm1(x)
        source = self.reduce_norm(self.reduce(as_map(y)).flatten(2).transpose(1, 2)) if self.reduce else y
        key, value = self.key_value(source).chunk(2, 2)
        y = F.scaled_dot_product_attention(by_head(self.query(y)), by_head(key), by_head(value))
        x = x + drop_path(self.project(y.transpose(1, 2).flatten(2)), self.rate)
        y = self.depthwise(as_map(self.expand(self.norm2(x)))).flatten(2).transpose(1, 2)
        return x + drop_path(self.shrink(F.gelu(y)), self.rate)


class Segformer(nn.Module):
    """MixVisionTransformer with SegformerHead."""

    def __init__(self, width, depths):
        super().__init__()
        rates = iter(torch.linspace(0, 0.1, sum(depths)).tolist())
        inputs, self.patches, self.blocks, self.norms = 3, nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        heads = (1, 2, 5, 8)
        for i, depth in enumerate(depths):
            kernel, stride, outputs = (7, 4, width) if i == 0 else (3, 2, width * heads[i])
            self.patches.append(nn.ModuleList([nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2),
                                               nn.LayerNorm(outputs, eps=1e-6)]))
            self.blocks.append(nn.ModuleList(
                [MixBlock(outputs, heads[i], (8, 4, 2, 1)[i], next(rates)) for _ in range(depth)]))
            self.norms.append(nn.LayerNorm(outputs, eps=1e-6))
            inputs = outputs
        self.convs = nn.ModuleList([conv_bn(width * n, 256, 1) for n in heads])
        self.fusion = conv_bn(4 * 256, 256, 1)
        self.conv_seg = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(256, CLASSES, 1))

    def forward(self, x):
        maps = []
        for (conv, norm), blocks, last, head in zip(self.patches, self.blocks, self.norms, self.convs):
            x = conv(x)
            h, w = x.shape[2:]
            x = norm(x.flatten(2).transpose(1, 2))
            for block in blocks:
                x = block(x, h, w)
            x = last(x).transpose(1, 2).unflatten(2, (h, w))
            maps.append(head(x))
        maps = [F.interpolate(y, maps[0].shape[2:], mode="bilinear") for y in maps]
        return [(1.0, self.conv_seg(self.fusion(torch.cat(maps, 1))))]

    def optimizer(self):
        return torch.optim.AdamW(self.parameters(), lr=6e-5, weight_decay=0.01)


MODELS = {"fcn_r50": FcnR50, "segformer_b0": lambda: Segformer(32, (2, 2, 2, 2)),
          "segformer_b2": lambda: Segformer(64, (3, 4, 6, 3))}


def measure(args):
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # as the configurations have it
    on_gpu, (h, w) = args.device != "cpu", args.shape
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    model = MODELS[args.model]().to(args.device, memory_format=layout).train()
    optimizer = model.optimizer()
    run = torch.compile(model) if args.compile else model
    images = torch.randint(0, 256, (args.batch_size, 3, h, w), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (args.batch_size, h, w), dtype=torch.uint8)
    if on_gpu:
        images, labels = images.pin_memory(), labels.pin_memory()
    mean, std = (torch.tensor(v, device=args.device).view(1, 3, 1, 1) for v in (MEAN, STD))

    def step():
        x = images.to(args.device, non_blocking=True).to(memory_format=layout)
        y = labels.to(args.device, non_blocking=True).long()
        with torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=args.bf16):
            outputs = run((x - mean) / std)
            losses = [factor * F.cross_entropy(F.interpolate(logits.float(), (h, w), mode="bilinear"), y,
                                               ignore_index=IGNORED) for factor, logits in outputs]
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()

    def synchronize():
        if on_gpu:
            torch.cuda.synchronize()

    for _ in range(max(args.warmup, 2 * args.compile)):
        step()
    synchronize()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    for _ in range(args.iters):
        step()
    synchronize()
    seconds = (time.perf_counter() - begin) / args.iters
    memory = (torch.cuda.max_memory_allocated() // 2**20 if on_gpu
              else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    return {"iters": args.iters, "batch_size": args.batch_size, "seconds_per_step": seconds,
            "seconds_per_step_median": seconds, "images_per_second": args.batch_size / seconds,
            "shape": args.shape, "peak_memory_mb": memory,
            "parameters": sum(p.numel() for p in model.parameters())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--shape", type=int, nargs=2, metavar=("H", "W"), default=[512, 512])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--iters", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    for flag in ("--bf16", "--channels-last", "--compile"):
        parser.add_argument(flag, action="store_true")
    args = parser.parse_args()
    try:
        found = measure(args)
    except Exception as error:
        sys.exit(f"error: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    print(json.dumps({"model": args.model, "device": args.device, "step": found}))


if __name__ == "__main__":
    main()
