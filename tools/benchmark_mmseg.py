#!/usr/bin/env python3
"""The training step that tools/benchmark measures, in MMSegmentation 1.2.2: for a comparison in one run.

    tools/print_config CONFIG > resolved.yaml
    python tools/benchmark_mmseg.py resolved.yaml --shape H W [--batch-size N] [--iters N] [--warmup N] [--amp]
                                    [--channels-last]

Prints one line of JSON with the same keys. Needs mmsegmentation, mmcv (or mmcv-lite, for models
without its operators) and mmengine. Uses OMP_NUM_THREADS threads.
"""
import argparse
import json
import os
import resource
import time


def process_age():
    """Seconds since the kernel started this process, before Python was loaded."""
    with open("/proc/self/stat") as f:
        started = float(f.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config", help="resolved YAML")
    parser.add_argument("--shape", type=int, nargs=2, required=True, metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--iters", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    import torch
    import yaml
    from mmengine.config import ConfigDict
    from mmengine.runner import Runner
    from mmengine.structures import PixelData
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample
    from mmseg.utils import register_all_modules

    register_all_modules()
    with open(args.config) as f:
        config = ConfigDict(yaml.safe_load(f))
    size = args.batch_size or config.train_dataloader.batch_size
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    model = model.to(args.device).train()
    if args.channels_last:
        model = model.to(memory_format=torch.channels_last)
        stack = model.data_preprocessor.forward

        def in_format(*data, **options):
            out = stack(*data, **options)
            out["inputs"] = out["inputs"].contiguous(memory_format=torch.channels_last)
            return out

        model.data_preprocessor.forward = in_format
    wrapper = config.optim_wrapper
    if args.amp:
        wrapper = ConfigDict(wrapper, type="AmpOptimWrapper")
    wrapper = Runner.build_optim_wrapper(argparse.Namespace(model=model), wrapper)
    classes = model.decode_head[-1].num_classes if isinstance(
        model.decode_head, torch.nn.ModuleList) else model.decode_head.num_classes

    h, w = args.shape
    meta = dict(img_shape=(h, w), ori_shape=(h, w), pad_shape=(h, w))
    data = dict(
        inputs=[torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for _ in range(size)],
        data_samples=[SegDataSample(
            gt_sem_seg=PixelData(data=torch.randint(0, classes, (1, h, w))), metainfo=meta)
            for _ in range(size)])

    def step():
        model.train_step(data, wrapper)
        if args.device != "cpu":
            torch.cuda.synchronize()

    seconds, first = [], None
    for i in range(args.warmup + args.iters):
        begin = time.perf_counter()
        step()
        if first is None:
            first = process_age()
        if i >= args.warmup:
            seconds.append(time.perf_counter() - begin)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 if args.device == "cpu"
              else torch.cuda.max_memory_allocated() // 2**20)
    mean = sum(seconds) / len(seconds)
    print(json.dumps({
        "config": args.config, "device": args.device, "cpu_threads": torch.get_num_threads(),
        "amp": args.amp, "step": {
            "iters": len(seconds), "batch_size": size, "seconds_per_step": mean,
            "seconds_per_step_median": sorted(seconds)[len(seconds) // 2],
            "images_per_second": size / mean, "shape": args.shape, "peak_memory_mb": memory},
        "start": {"seconds_to_first_step": first}}))


if __name__ == "__main__":
    main()
