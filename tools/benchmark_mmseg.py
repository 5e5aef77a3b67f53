#!/usr/bin/env python3
"""What tools/benchmark measures, in MMSegmentation 1.2.2: `tools/benchmark --against PYTHON` runs it.

    tools/print_config CONFIG > resolved.yaml
    python tools/benchmark_mmseg.py resolved.yaml [--what step|data|start] [--shape H W] [--batch-size N]
        [--iters N] [--warmup N] [--threads N] [--device NAME] [--amp] [--channels-last] [--compile]

Prints one line of JSON with the same keys. Needs mmsegmentation, mmcv (or mmcv-lite, for models
without its operators) and mmengine. Uses OMP_NUM_THREADS threads. Where nothing can be measured, the
last line says why; the exit code is 77 if this Python has no MMSegmentation. ConvNeXt needs mmpretrain
too, MaskFormer and Mask2Former mmdet.
"""
import argparse
import itertools
import json
import os
import re
import resource
import sys
import time

from mmseg_config import LibrariesBeside, adapted, add_in_channels, add_scopes

NOT_INSTALLED = 77


def process_age():
    """Seconds since the kernel started this process, before Python was loaded."""
    with open("/proc/self/stat") as f:
        started = float(f.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


class Benchmark:
    def __init__(self, args):
        from mmseg.registry import MODELS, TASK_UTILS  # first: it is what a Python lacks
        import torch
        import yaml
        from mmengine.config import ConfigDict
        from mmengine.runner import Runner
        from mmseg.utils import register_all_modules

        register_all_modules()
        self.args, self.torch, self.runner, self.models = args, torch, Runner, MODELS
        with open(args.config) as f:
            config = adapted(yaml.safe_load(f))
        own = (MODELS, TASK_UTILS)
        add_scopes(config["model"], lambda name: any(types.get(name) for types in own), LibrariesBeside())
        self.config = ConfigDict(config)
        env = self.config.get("env_cfg") or {}
        torch.backends.cudnn.benchmark = env.get("cudnn_benchmark", False)
        torch.backends.cuda.matmul.allow_tf32 = env.get("allow_tf32", False)
        self.size = args.batch_size or self.config.train_dataloader.batch_size

    def build_model(self):
        args, torch, config = self.args, self.torch, self.config
        preprocessor = config.model.get("data_preprocessor") or {}
        if args.shape and preprocessor.get("size"):
            preprocessor["size"] = tuple(args.shape)
        torch.manual_seed(0)
        add_in_channels(config.model, self.models, torch)
        model = self.models.build(config.model)
        model.init_weights()
        model = model.to(args.device)
        model.train()
        if args.channels_last:
            model = model.to(memory_format=torch.channels_last)
            stack = model.data_preprocessor.forward

            def in_format(*data, **options):
                out = stack(*data, **options)
                out["inputs"] = out["inputs"].contiguous(memory_format=torch.channels_last)
                return out

            model.data_preprocessor.forward = in_format
        if args.compile:
            for name in ("backbone", "neck", "decode_head", "auxiliary_head"):
                part = getattr(model, name, None)
                for one in part if isinstance(part, torch.nn.ModuleList) else [part] if part else []:
                    one.forward = torch.compile(one.forward)
        wrapper = self.config.optim_wrapper
        if wrapper.get("dtype") == "float32":  # which MMEngine's mixed precision does on a GPU alone
            left_out = ("type", "dtype", "loss_scale")
            wrapper = {key: value for key, value in wrapper.items() if key not in left_out}
            wrapper["type"] = "OptimWrapper"
        if args.amp:
            wrapper = dict(wrapper, type="AmpOptimWrapper")
        return model, self.runner.build_optim_wrapper(argparse.Namespace(model=model), wrapper)

    def images_in_memory(self, model):
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        torch, (h, w) = self.torch, self.args.shape or self.config.model.data_preprocessor.size
        heads = model.decode_head
        classes = (heads[-1] if isinstance(heads, torch.nn.ModuleList) else heads).num_classes
        meta = dict(img_shape=(h, w), ori_shape=(h, w), pad_shape=(h, w))
        return dict(
            inputs=[torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for _ in range(self.size)],
            data_samples=[SegDataSample(
                gt_sem_seg=PixelData(data=torch.randint(0, classes, (1, h, w))), metainfo=meta)
                for _ in range(self.size)])

    def loader(self, threads):
        """The training batches, again and again, loaded by so many processes."""
        config = dict(self.config.train_dataloader, num_workers=threads)
        if threads == 0:
            config = {k: v for k, v in config.items() if k not in ("persistent_workers", "prefetch_factor")}
        loader = self.runner.build_dataloader(config, seed=0)
        return itertools.chain.from_iterable(itertools.repeat(loader))

    def synchronize(self):
        if self.args.device != "cpu":
            self.torch.cuda.synchronize()

    def step(self):
        args, torch = self.args, self.torch
        model, wrapper = self.build_model()
        data = self.images_in_memory(model)
        for _ in range(max(args.warmup, 2 * args.compile)):  # the first steps compile
            model.train_step(data, wrapper)
        self.synchronize()
        if args.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        seconds, first = [], time.perf_counter()
        for _ in range(args.iters):
            begin = time.perf_counter()
            model.train_step(data, wrapper)
            seconds.append(time.perf_counter() - begin)
        if args.device != "cpu":  # steps are queued, as in a run: only all of them can be timed
            self.synchronize()
            seconds = [(time.perf_counter() - first) / args.iters] * args.iters
        memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 if args.device == "cpu"
                  else torch.cuda.max_memory_allocated() // 2**20)
        mean = sum(seconds) / len(seconds)
        return {"iters": len(seconds), "batch_size": self.size, "seconds_per_step": mean,
                "seconds_per_step_median": sorted(seconds)[len(seconds) // 2],
                "images_per_second": self.size / mean, "shape": args.shape, "peak_memory_mb": memory}

    def data(self):
        import cv2

        cv2.setNumThreads(0)
        threads = self.args.threads
        if threads is None:
            threads = self.config.train_dataloader.get("num_workers", 0)
        batches = self.loader(threads)
        # Batches loaded ahead are not counted: first as many are taken as may be there.
        for _ in range(max(self.args.warmup, 2 * threads + 1)):
            next(batches)
        images, begin = 0, time.perf_counter()
        for _ in range(self.args.iters):
            images += len(next(batches)["inputs"])
        seconds = time.perf_counter() - begin
        return [{"threads": threads, "batch_size": self.config.train_dataloader.batch_size,
                 "images": images, "images_per_second": images / seconds}]

    def start(self):
        """From the start of Python; on images in memory where MMSegmentation lacks the data set's type."""
        from mmseg.registry import DATASETS

        loader = self.config.train_dataloader
        has_data = DATASETS.get(loader.dataset.type) is not None
        batches = self.loader(loader.get("num_workers", 0)) if has_data else None
        model, wrapper = self.build_model()
        model.train_step(next(batches) if has_data else self.images_in_memory(model), wrapper)
        self.synchronize()
        return {"seconds_to_first_step": process_age(), "with_data": has_data}


def sentence_of(error):
    """The reason in one line, without MMEngine's advice."""
    unknown = re.search(r"(\w+) is not in the \S+ registry", str(error))
    if unknown:
        return f"MMSegmentation has no '{unknown[1]}'"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config", help="resolved YAML")
    parser.add_argument("--what", choices=("step", "data", "start"), default="step")
    parser.add_argument("--shape", type=int, nargs=2, metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--iters", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--threads", type=int, help="processes that load data (default: num_workers)")
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    try:
        benchmark = Benchmark(args)
        found = getattr(benchmark, args.what)()
        threads = benchmark.torch.get_num_threads()
    except ModuleNotFoundError as error:
        print(f"error: {sys.executable} has no module '{error.name}'", file=sys.stderr)
        sys.exit(NOT_INSTALLED)
    except Exception as error:
        sys.exit(f"error: {sentence_of(error)}")
    print(json.dumps({"config": args.config, "device": args.device, "cpu_threads": threads,
                      "amp": args.amp, args.what: found}))


if __name__ == "__main__":
    main()
