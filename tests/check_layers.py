#!/usr/bin/env python3
"""Checks who includes whom: layers, the rooms of each layer, and where third-party headers may be seen.

    check_layers.py ROOT

A room is a folder. It may include itself and what MAY_INCLUDE names: a room, without the rooms below
it, or a single header. "registry" and headers of segcore/ itself may be included wherever their layer may.
"""

import pathlib
import re
import sys

# A layer, what it may include of ours, and what it must not see of others.
TORCH = r"torch/|ATen/|c10/|caffe2/"
YAML_AND_LOG = r"yaml-cpp/|spdlog/"
PROCESSES = r"nccl\.h|gloo/|torch/csrc/distributed/"
LAYERS = {
    # Configs are read and checked in milliseconds, by programs that load no LibTorch.
    "registry": ("registry", rf"{TORCH}|opencv2/|{YAML_AND_LOG}|{PROCESSES}"),
    # Models and data are usable outside of a run; other processes are seen through Communicator.
    "segcore": ("registry|segcore", rf"{YAML_AND_LOG}|{PROCESSES}"),
    "runners": ("registry|segcore|runners", YAML_AND_LOG),
    "tools": ("registry|segcore|runners|tools", YAML_AND_LOG),
}
# yaml-cpp and spdlog are details of one file each.
EXCEPTIONS = {("registry/yaml_reader.cpp", "yaml-cpp/"), ("registry/log.cpp", "spdlog/")}

MODELS = "segcore/models/"
# Words that every model may use: interfaces, primitives, initialisation.
MODEL_BASE = ["segcore/models", MODELS + "nn", MODELS + "weights"]
MAY_INCLUDE = {
    # --- segcore: from files up to models ---
    "segcore/io": [],  # bytes and values; knows neither images nor models
    "segcore/dist": [],  # the interface of other processes
    "segcore/memory": [],  # where tensors get theirs
    "segcore/ops": ["segcore/memory"],  # tensors in, tensors out: an operator knows no model, metric or data set
    "segcore/image": ["segcore/io"],  # codecs; usable without models and data sets
    # No model: a data set serves any. Facts of a config need the options of the base of all data sets.
    "segcore/data": ["segcore/image", "segcore/io", "segcore/data/datasets/base_seg_dataset.hpp"],
    "segcore/data/datasets": ["segcore/data", "segcore/image", "segcore/io"],
    "segcore/data/transforms": ["segcore/data", "segcore/image", "segcore/io"],
    # Metrics get class ids or scores; which model made them does not matter.
    "segcore/evaluation": ["segcore/data", "segcore/dist", "segcore/image", "segcore/ops"],
    # Interfaces of models. A batch and its samples are data.
    "segcore/models": ["segcore/data", "segcore/memory", MODELS + "nn", MODELS + "weights"],
    # Primitives: built on nothing but operators, statistics of other processes and initialisers.
    MODELS + "nn": ["segcore/dist", "segcore/memory", "segcore/ops", MODELS + "weights"],
    # Initialisers are chosen by layer; pretrained files are read from disk.
    MODELS + "weights": ["segcore/io", "segcore/models", MODELS + "nn"],
    # Blocks are made of primitives and serve several models; they know none of them.
    MODELS + "blocks": ["segcore/memory", "segcore/ops", MODELS + "nn", MODELS + "weights"],
    # Parts that configs combine know each other by interface only, never by class.
    MODELS + "data_preprocessors": MODEL_BASE,
    # A backbone may know names of weights that it had in the past.
    MODELS + "backbones": MODEL_BASE + ["segcore/io/weights.hpp", "segcore/ops", MODELS + "blocks"],
    # Networks of other libraries, as backbones and as encoders of smp's models.
    MODELS + "encoders": MODEL_BASE + ["segcore/io", "segcore/ops", MODELS + "backbones", MODELS + "blocks"],
    MODELS + "necks": MODEL_BASE + ["segcore/ops", MODELS + "blocks"],
    MODELS + "losses": MODEL_BASE + ["segcore/ops"],
    MODELS + "assigners": MODEL_BASE + ["segcore/ops"],
    MODELS + "pixel_samplers": MODEL_BASE + ["segcore/ops"],
    # Heads of queries match them to objects and read fixed prototypes; both belong to a head's loss.
    MODELS + "decode_heads": MODEL_BASE + ["segcore/io", "segcore/ops", MODELS + "assigners",
                                           MODELS + "blocks", MODELS + "losses"],
    # Classes are known by name: those of data sets, and a published file of the parts of words.
    MODELS + "open_vocabulary": MODEL_BASE + ["segcore/data", "segcore/io/model_zoo.hpp", MODELS + "blocks",
                                              MODELS + "decode_heads/mask_set_losses.hpp"],
    # EoMT is a model without a head that learns as heads of queries do.
    MODELS + "segmentors": MODEL_BASE + ["segcore/ops", MODELS + "blocks", MODELS + "open_vocabulary",
                                         MODELS + "decode_heads/mask_set_losses.hpp"],
    # torchvision's models for segmentation, of its encoders.
    MODELS + "torchvision": MODEL_BASE + [MODELS + "blocks", MODELS + "encoders", MODELS + "segmentors"],
    # The models of segmentation_models_pytorch stand beside mmseg's and adapt them.
    MODELS + "smp": MODEL_BASE + ["segcore/io", "segcore/ops", MODELS + "blocks", MODELS + "encoders",
                                  MODELS + "segmentors"],
    "segcore/profile": ["segcore/models", "segcore/ops", MODELS + "encoders"],
    # Comparison with Python's numbers: may look at everything that it compares.
    "segcore/testing": ["segcore/data", "segcore/image", "segcore/io", "segcore/ops",
                        "segcore/models", MODELS + "encoders", MODELS + "nn"],
    # --- runners: engines first, what happens last ---
    # Other processes: who they are and which device is ours is found out at the start.
    # A process that is lost leaves a record of what it did.
    "runners/dist": ["runners/log", "runners/start/device.hpp", "runners/start/processes.hpp"],
    "runners/cuda": ["runners/dist", "runners/train/device_graph.hpp"],
    "runners/optim": [],  # optimisers and schedules know parameters, not runs
    # Numbers and lines. A line is worded by the stage that it belongs to; no hook is known here.
    "runners/log": ["runners/hooks/stage.hpp", "runners/start/device.hpp", "runners/train/progress.hpp"],
    "runners/visualization": ["runners/log"],
    # What a checkpoint holds. Hooks ask it to save; what they add to a file they hand over as parts
    # (part.hpp), so that the way hooks -> checkpoint -> hooks is closed.
    "runners/checkpoint": ["runners/dist", "runners/log", "runners/optim", "runners/start",
                           "runners/train/progress.hpp"],
    # A hook sees what is fixed, where the run stands and what a step gave; not the loops that call it.
    "runners/hooks": ["runners/checkpoint", "runners/log", "runners/optim", "runners/visualization",
                      "runners/start/device.hpp", "runners/start/run_info.hpp",
                      "runners/train/progress.hpp"],
    # Loops call hooks through hook.hpp, and start and end with the session of start/.
    "runners/evaluate": ["runners/dist", "runners/hooks", "runners/log", "runners/start"],
    "runners/train": ["runners/checkpoint", "runners/dist", "runners/evaluate", "runners/hooks",
                      "runners/log", "runners/optim", "runners/start"],
    # From a config to the parts of a run: knows the interface of each, and the options of the loops.
    "runners/start": ["runners/checkpoint", "runners/dist", "runners/hooks", "runners/log",
                      "runners/optim", "runners/visualization", "runners/evaluate/eval_loop.hpp",
                      "runners/train/length.hpp"],
    # Many runs: each config is checked as a run would, and each run is a process of its own, of which
    # files alone are known.
    "runners/sweep": ["runners/log", "runners/start", "runners/visualization",
                      "runners/checkpoint/find.hpp", "runners/hooks/metric_rule.hpp"],
    # Stages of sweeps and of tests, which are processes of their own.
    "runners/ensemble": ["runners/start", "runners/sweep", "runners/checkpoint/find.hpp"],
}
SUFFIXES = {".hpp", ".cpp", ".cu", ".cuh"}


def room_of(path):
    """The folder of MAY_INCLUDE that holds the file: itself or the nearest above it."""
    folder = path.rpartition("/")[0]
    while folder and folder not in MAY_INCLUDE:
        folder = folder.rpartition("/")[0]
    return folder


def problems_of(path, text):
    layer = path.split("/")[0]
    own, foreign = LAYERS[layer]
    room = room_of(path)
    if layer == "segcore" and not room and path.count("/") > 1 or layer == "runners" and not room:
        yield f"{path}: its folder is not in the table of tests/check_layers.py"
    for included in re.findall(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)', text, re.MULTILINE):
        if "../" in included:
            yield f"{path}: includes '{included}'; write paths from the root"
        if re.match(foreign, included) and not any(
                path == file and included.startswith(of) for file, of in EXCEPTIONS):
            yield f"{path}: includes '{included}', which {layer}/ must not see"
        if not re.match(r"(registry|segcore|runners|tools|tests)/", included):
            continue
        if not re.match(rf"({own})/", included):
            yield f"{path}: includes '{included}'; {layer}/ may include only {own}"
        elif included.startswith(layer + "/") and layer in ("segcore", "runners"):
            other = room_of(included)
            allowed = MAY_INCLUDE.get(room, [])
            if room and other and other != room and other not in allowed and included not in allowed:
                yield f"{path}: includes '{included}'; {room}/ may not include {other}/"


def main(root):
    files = [path for layer in LAYERS for path in sorted((root / layer).rglob("*"))
             if path.suffix in SUFFIXES]
    if len(files) < 50:
        sys.exit(f"only {len(files)} files were found below '{root}'")
    problems = [problem for path in files
                for problem in problems_of(str(path.relative_to(root)), path.read_text())]
    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(files)} files include only what their room may")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
