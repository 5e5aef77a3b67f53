"""Writes augmentation.json: numbers of Albumentations, of MMSegmentation's transforms of volumes and mosaics, of NIfTI
files, of cityscapesScripts and of DepthMetric.

    pip install "numpy<2" "opencv-python-headless<4.10" scipy nibabel scikit-image qudida pyyaml cityscapesscripts
    pip install --no-deps albumentations==1.3.1
    python make_augmentation.py FOLDER    # the unpacked wheel of mmsegmentation 1.2.2

Ranges have equal bounds, so that nothing is left to chance. MMSegmentation's file of transforms is run as it is; what it
imports of MMCV and MMEngine, for other transforms, has stand-ins.
"""
import ast
import base64
import importlib.util
import json
import pathlib
import sys
import tempfile
import types

import albumentations
import cv2
import nibabel
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 9, 11


def image(number=0):
    """BGR, by a formula that the test has, too."""
    y, x, c = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), np.arange(3), indexing="ij")
    return ((x * x * 3 + y * y * 5 + x * y * 7 + c * 101 + x * 17 + y * 29 + number * 57) % 256).astype(np.uint8)


def labels(number=0):
    y, x = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), indexing="ij")
    return ((x // 3 + y // 2 * 3 + number) % 5).astype(np.uint8)


def volume():
    n, z, y, x = np.meshgrid(np.arange(2), np.arange(4), np.arange(5), np.arange(6), indexing="ij")
    return (((x * x * 3 + y * 7 + z * 13 + n * 5 + x * y) % 32) / 8.0 - 1.0).astype(np.float32)


def volume_labels():
    z, y, x = np.meshgrid(np.arange(4), np.arange(5), np.arange(6), indexing="ij")
    return ((x + y + z) % 3).astype(np.float32)


def numbers(array):
    return {"shape": list(array.shape), "values": np.asarray(array, np.float64).ravel().tolist()}


ALBU = [
    {"type": "RandomBrightnessContrast", "brightness_limit": [0.15, 0.15], "contrast_limit": [-0.1, -0.1], "p": 1.0},
    {"type": "RandomBrightnessContrast", "brightness_limit": [-0.2, -0.2], "contrast_limit": [0.3, 0.3],
     "brightness_by_max": False, "p": 1.0},
    {"type": "RandomGamma", "gamma_limit": [80, 80], "p": 1.0},
    {"type": "RandomGamma", "gamma_limit": [120, 120], "p": 1.0},
    {"type": "HueSaturationValue", "hue_shift_limit": [7.3, 7.3], "sat_shift_limit": [-21.5, -21.5],
     "val_shift_limit": [12.25, 12.25], "p": 1.0},
    {"type": "HueSaturationValue", "hue_shift_limit": [-9.6, -9.6], "sat_shift_limit": [30, 30],
     "val_shift_limit": [-20, -20], "p": 1.0},
    {"type": "RGBShift", "r_shift_limit": [10.5, 10.5], "g_shift_limit": [-20, -20], "b_shift_limit": [3, 3], "p": 1.0},
    {"type": "CLAHE", "clip_limit": [2.5, 2.5], "tile_grid_size": [2, 2], "p": 1.0},
    {"type": "ToGray", "p": 1.0},
    {"type": "HorizontalFlip", "p": 1.0},
    {"type": "VerticalFlip", "p": 1.0},
    {"type": "Transpose", "p": 1.0},
    {"type": "Blur", "blur_limit": [3, 3], "p": 1.0},
    {"type": "MedianBlur", "blur_limit": [3, 3], "p": 1.0},
    {"type": "GaussianBlur", "blur_limit": [5, 5], "p": 1.0},
    {"type": "GaussianBlur", "blur_limit": [3, 3], "sigma_limit": [1.2, 1.2], "p": 1.0},
    {"type": "Rotate", "limit": [30, 30], "p": 1.0},
    {"type": "Rotate", "limit": [-20, -20], "crop_border": True, "border_mode": 0, "p": 1.0},
    {"type": "ShiftScaleRotate", "shift_limit": [0.1, 0.1], "scale_limit": [0.2, 0.2], "rotate_limit": [15, 15],
     "border_mode": 0, "value": [10, 20, 30], "mask_value": 4, "p": 1.0},
    {"type": "OneOf", "transforms": [{"type": "VerticalFlip", "p": 0.3}], "p": 1.0},
]


def built(config):
    config = dict(config)
    kind = getattr(albumentations, config.pop("type"))
    if "transforms" in config:
        config["transforms"] = [built(c) for c in config["transforms"]]
    return kind(**config)


def albu_cases():
    for config in ALBU:
        out = albumentations.Compose([built(config)])(
            image=cv2.cvtColor(image(), cv2.COLOR_BGR2RGB), mask=labels())
        yield {"config": config, "image": numbers(cv2.cvtColor(out["image"], cv2.COLOR_RGB2BGR)),
               "labels": numbers(out["mask"])}


def mmseg_transforms(folder):
    """The module of transforms."""
    class Registry:
        def register_module(self, *_, **__):
            return lambda cls: cls

    def module(name, **members):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(members)

    stand_in = type("StandIn", (), {"transform": None})
    module("mmcv", imresize=lambda img, size, interpolation="bilinear": cv2.resize(
        img, size, interpolation=cv2.INTER_NEAREST if interpolation == "nearest" else cv2.INTER_LINEAR))
    module("mmcv.transforms", RandomFlip=stand_in, Resize=stand_in, to_tensor=None)
    module("mmcv.transforms.base", BaseTransform=type("BaseTransform", (), {}))
    module("mmcv.transforms.utils", cache_randomness=lambda f: f)
    module("mmengine", is_str=None)
    module("mmengine.utils", is_tuple_of=None)
    module("mmseg")
    module("mmseg.datasets")
    module("mmseg.datasets.dataset_wrappers", MultiImageMixDataset=None)
    module("mmseg.registry", TRANSFORMS=Registry())
    sys.modules["mmseg.datasets"].__path__ = []
    path = pathlib.Path(folder) / "mmseg/datasets/transforms/transforms.py"
    spec = importlib.util.spec_from_file_location("mmseg.datasets.transforms", path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["mmseg.datasets.transforms"] = loaded
    spec.loader.exec_module(loaded)
    return loaded


VOLUMES = [
    {"type": "BioMedicalGaussianBlur", "prob": 1.0, "prob_per_channel": 1.0, "sigma_range": [0.8, 0.8]},
    {"type": "BioMedicalGaussianBlur", "prob": 1.0, "prob_per_channel": 1.0, "sigma_range": [2.0, 2.0],
     "different_sigma_per_axis": False},
    {"type": "BioMedicalRandomGamma", "prob": 1.0, "gamma_range": [1.7, 1.7]},
    {"type": "BioMedicalRandomGamma", "prob": 1.0, "gamma_range": [1.3, 1.3], "invert_image": True,
     "retain_stats": True},
    {"type": "BioMedicalGaussianNoise", "prob": 1.0, "mean": 0.25, "std": 0.0},
    {"type": "BioMedical3DRandomFlip", "prob": 1.0, "axes": [0, 2], "swap_label_pairs": [[1, 2]]},
    {"type": "BioMedical3DRandomFlip", "prob": 1.0, "axes": [1]},
    {"type": "BioMedical3DRandomCrop", "crop_shape": [4, 5, 6], "keep_foreground": False},
]


def volume_cases(module):
    for config in VOLUMES:
        options = {k: tuple(v) if k in ("crop_shape", "axes", "gamma_range") else v for k, v in config.items() if k != "type"}
        out = getattr(module, config["type"])(**options).transform({"img": volume(), "gt_seg_map": volume_labels()})
        yield {"config": config, "image": numbers(out["img"]), "labels": numbers(out["gt_seg_map"])}


def mosaic_cases(module):
    for scale, ratio in (((8, 8), 1.0), ((6, 14), 0.7), ((5, 5), 1.4)):
        mosaic = module.RandomMosaic(prob=1.0, img_scale=scale, center_ratio_range=(ratio, ratio), pad_val=7)
        samples = [{"img": image(i), "gt_seg_map": labels(i), "seg_fields": ["gt_seg_map"]} for i in range(4)]
        out = mosaic.transform({**samples[0], "mix_results": samples[1:]})
        yield {"config": {"type": "RandomMosaic", "prob": 1.0, "img_scale": list(scale),
                          "center_ratio_range": [ratio, ratio], "pad_val": 7},
               "image": numbers(out["img"]), "labels": numbers(out["gt_seg_map"])}


def nifti_cases():
    values = np.arange(24).reshape(2, 3, 4)
    for name, dtype, order, slope, shift, suffix in (
            ("little int16", np.int16, "<", 1, 0, ".nii.gz"), ("big float32", np.float32, ">", 1, 0, ".nii"),
            ("scaled uint8", np.uint8, "<", 0.5, -3, ".nii.gz"), ("uint16", np.uint16, "<", 1, 0, ".nii"),
            ("float64", np.float64, "<", 1, 0, ".nii.gz"), ("int32", np.int32, ">", 2, 1, ".nii.gz")):
        header = nibabel.Nifti1Header(endianness=order)
        header.set_data_dtype(dtype)
        made = nibabel.Nifti1Image(values.astype(dtype), np.eye(4), header)
        made.header.set_slope_inter(slope, shift)
        with tempfile.TemporaryDirectory() as folder:
            path = str(pathlib.Path(folder) / ("a" + suffix))
            if (slope, shift) == (1, 0):
                nibabel.save(made, path)
            else:
                made.to_filename(path)
            read = nibabel.load(path).get_fdata()
            data = pathlib.Path(path).read_bytes()
        yield {"name": name, "file": base64.b64encode(data).decode(), **numbers(read)}


def cityscapes():
    """Two images: predictions of train ids, the files of truth, and the scores."""
    import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as evaluation
    from cityscapesscripts.helpers.labels import labels as known
    evaluation.args.evalInstLevelScore = True
    evaluation.args.evalPixelAccuracy = True
    evaluation.args.quiet = True
    evaluation.args.JSONOutput = False
    to_id = {label.trainId: label.id for label in known if label.id >= 0 and not label.ignoreInEval}
    train_of = {label.id: label.trainId for label in known}
    out = []
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for number in range(2):
            y, x = np.meshgrid(np.arange(12), np.arange(20), indexing="ij")
            truth = np.vectorize(to_id.get)((x // 2 + y // 3 * 5 + number) % 19)
            truth[:2, :6] = 0  # unlabelled
            truth[10:, :4] = 29  # a caravan, which does not count
            predicted = np.where((x * 3 + y * 5 + number) % 4 == 0, (x // 3 + y) % 19, (x // 2 + y // 3 * 5 + number) % 19)
            instances = np.where(np.isin(truth, (24, 25, 26, 27, 28, 29, 31, 32, 33)) & (x % 7 != 0), truth * 1000 + y // 6 + 1, truth)
            base = str(pathlib.Path(folder) / str(number))
            Image.fromarray(np.vectorize(to_id.get)(predicted).astype(np.uint8)).save(base + "_pred.png")
            Image.fromarray(truth.astype(np.uint8)).save(base + "_labelIds.png")
            cv2.imwrite(base + "_instanceIds.png", instances.astype(np.uint16))
            names.append((base + "_pred.png", base + "_labelIds.png"))
            train = np.vectorize(lambda i: train_of[i] if train_of[i] >= 0 else 255)(truth)
            out.append({"prediction": predicted.tolist(), "labels": train.tolist(), "instances": instances.tolist()})
        scores = evaluation.evaluateImgLists(*zip(*names), evaluation.args)
    return {"images": out, "averageScoreCategories": scores["averageScoreCategories"],
            "averageScoreInstCategories": scores["averageScoreInstCategories"],
            "categoryScores": {k: v for k, v in scores["categoryScores"].items() if v == v}}


def depth(folder):
    """The errors of two images, by the function of DepthMetric with NumPy, in double precision, in place of PyTorch."""
    class Number(float):
        def float(self):
            return self

        def item(self):
            return float(self)

        def __truediv__(self, other):
            return Number(float(self) / other)

    stand_in = types.SimpleNamespace(
        Tensor=None, max=np.maximum, log=np.log, log10=np.log10, abs=np.abs, pow=np.power,
        sum=lambda x: Number(x.sum()), mean=lambda x: Number(x.mean()), sqrt=lambda x: Number(np.sqrt(x)))
    tree = ast.parse((pathlib.Path(folder) / "mmseg/evaluation/metrics/depth_metric.py").read_text())
    method = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "_calc_all_metrics")
    method.decorator_list = []
    names = {"torch": stand_in}
    exec(compile(ast.Module([method], []), "depth_metric.py", "exec"), names)
    images = []
    for number in range(2):
        i = np.arange(48)
        truth = (i * 7 + number * 3) % 40 / 3.0
        predicted = truth * (0.7 + (i * 5 + number) % 13 / 15.0) + 0.1
        counted = (truth > 0.001) & (truth < 10)
        images.append({"truth": truth.tolist(), "depth": predicted.tolist(),
                       "errors": names["_calc_all_metrics"](truth[counted], predicted[counted])})
    return images


def main():
    module = mmseg_transforms(sys.argv[1])
    parts = {"albu": list(albu_cases()), "volumes": list(volume_cases(module)), "mosaics": list(mosaic_cases(module)),
             "nifti": list(nifti_cases())}
    lines = ['{"made_by": "make_augmentation.py with MMSegmentation 1.2.2, Albumentations %s, OpenCV %s, nibabel %s"'
             % (albumentations.__version__, cv2.__version__, nibabel.__version__)]
    for name, cases in parts.items():
        lines.append('"%s": [\n%s]' % (name, ",\n".join(json.dumps(c) for c in cases)))
    lines.append('"cityscapes": ' + json.dumps(cityscapes()))
    lines.append('"depth": ' + json.dumps(depth(sys.argv[1])))
    (pathlib.Path(__file__).parent / "augmentation.json").write_text(",\n".join(lines) + "}\n")


main()
