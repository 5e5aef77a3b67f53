#!/usr/bin/env python3
"""Writes the fixtures of VPD beside this file: narrow networks, by the code of MMSegmentation and of ldm.

    pip install torch numpy mmengine
    git clone https://github.com/CompVis/stable-diffusion
    python make_vpd.py stable-diffusion MMSEG MAKE_REFERENCE

MMSEG is the folder mmseg/ of the unpacked wheel of mmsegmentation 1.2.2, MAKE_REFERENCE the program that makes the other
fixtures: its formulas fill weights, images and labels. The files of the models are run as they are; of what they import
beside PyTorch and MMEngine, only what these models use has stand-ins. Depth is 10 * uniform("depth", i), or 0 (unknown)
where that is below 0.5.
"""
import importlib.util
import json
import pathlib
import sys
import types

import torch
from torch import nn

CONTEXT = 24  # width of the texts
LDM, MMSEG, MAKER = map(pathlib.Path, sys.argv[1:])
spec = importlib.util.spec_from_file_location("make_reference", MAKER)
ref = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ref)


def stand_in(name, folder=None, **contents):
    module = types.ModuleType(name)
    if folder:
        module.__path__ = [str(folder)]
    module.__dict__.update(contents)
    sys.modules[name] = module
    return module


# ---- what ldm imports

def rearrange(x, pattern, h=None, w=None):
    """The four patterns that the U-Net's attention uses."""
    if pattern == "b c h w -> b (h w) c":
        return x.flatten(2).transpose(1, 2)
    if pattern == "b (h w) c -> b c h w":
        return x.transpose(1, 2).reshape(x.shape[0], -1, h, w)
    if pattern == "b n (h d) -> (b h) n d":
        return x.reshape(*x.shape[:2], h, -1).transpose(1, 2).flatten(0, 1)
    if pattern == "(b h) n d -> b n (h d)":
        return x.reshape(-1, h, *x.shape[1:]).transpose(1, 2).flatten(2)
    raise NotImplementedError(pattern)


class DiffusionWrapper(nn.Module):
    """As in ldm.models.diffusion.ddpm, whose file imports much that VPD does not use."""

    def __init__(self, config):
        super().__init__()
        self.diffusion_model = instantiate(config)


def instantiate(config):
    target, params = config["target"], config.get("params", {})
    if target.endswith("LatentDiffusion"):
        first_stage = instantiate(params["first_stage_config"]).eval()
        first_stage.train = lambda mode=True: first_stage
        for p in first_stage.parameters():
            p.requires_grad = False
        return types.SimpleNamespace(first_stage_model=first_stage, model=DiffusionWrapper(params["unet_config"]))
    module, name = target.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**params)


stand_in("einops", rearrange=rearrange, repeat=None)
stand_in("omegaconf")
stand_in("omegaconf.listconfig", ListConfig=type("ListConfig", (), {}))
stand_in("pytorch_lightning", LightningModule=nn.Module)
for name in ("taming", "taming.modules", "taming.modules.vqvae"):
    stand_in(name)
stand_in("taming.modules.vqvae.quantize", VectorQuantizer2=None)
stand_in("ldm", LDM / "ldm")
stand_in("ldm.util", instantiate_from_config=instantiate)

# ---- what MMSegmentation imports

stand_in("mmseg", MMSEG)
for name in ("models", "models.utils", "models.losses", "models.decode_heads", "models.segmentors", "models.backbones",
             "structures", "structures.sampler"):
    stand_in("mmseg." + name, MMSEG / name.replace(".", "/"))
stand_in("mmcv")
stand_in("mmcv.cnn", ConvModule=None,
         build_conv_layer=lambda cfg, **o: nn.Conv2d(**o),
         build_norm_layer=lambda cfg, n: ("bn", nn.BatchNorm2d(n)),
         build_upsample_layer=lambda cfg, **o: nn.ConvTranspose2d(**o))
utils = stand_in("mmseg.utils", MMSEG / "utils")
structures = sys.modules["mmseg.structures"]
structures.SegDataSample = importlib.import_module("mmseg.structures.seg_data_sample").SegDataSample
structures.build_pixel_sampler = None
utils.__dict__.update({k: v for k, v in vars(importlib.import_module("mmseg.utils.typing_utils")).items() if k[0] != "_"})
utils.add_prefix = importlib.import_module("mmseg.utils.misc").add_prefix
sys.modules["mmseg.models.utils"].resize = importlib.import_module("mmseg.models.utils.wrappers").resize
sys.modules["mmseg.models.losses"].accuracy = importlib.import_module("mmseg.models.losses.accuracy").accuracy
importlib.import_module("mmseg.models.losses.silog_loss")
stand_in("mmengine.runner", load_checkpoint=None, CheckpointLoader=types.SimpleNamespace(
    load_checkpoint=lambda path: torch.zeros(27, CONTEXT)))
importlib.import_module("mmseg.models.backbones.vpd")
importlib.import_module("mmseg.models.decode_heads.vpd_depth_head")
importlib.import_module("mmseg.models.segmentors.depth_estimator")

from mmengine.config import ConfigDict  # noqa: E402
from mmengine.structures import PixelData  # noqa: E402
from mmseg.registry import MODELS  # noqa: E402


def depths(shape):
    n, h, w = shape
    d = 10.0 * torch.from_numpy(ref.uniform("depth", n * h * w)).double().reshape(n, 1, h, w)
    return torch.where(d < 0.5, torch.zeros_like(d), d)


def model_of(unet, first_stage, backbone, head, test_cfg):
    diffusion = dict(target="ldm.models.diffusion.ddpm.LatentDiffusion", params=dict(
        unet_config=dict(target="ldm.modules.diffusionmodules.openaimodel.UNetModel", params=dict(
            image_size=32, in_channels=4, out_channels=4, model_channels=32, num_res_blocks=2,
            use_spatial_transformer=True, context_dim=CONTEXT, **unet)),
        first_stage_config=dict(target="ldm.models.autoencoder.AutoencoderKL", params=dict(
            embed_dim=4, lossconfig=dict(target="torch.nn.Identity"), ddconfig=dict(
                double_z=True, z_channels=4, in_channels=3, out_ch=3, ch=32, dropout=0.0, **first_stage)))))
    return dict(type="DepthEstimator",
                backbone=dict(type="VPD", diffusion_cfg=diffusion, class_embed_path="class_embeddings.pth",
                              unet_cfg=dict(use_attn=False), **backbone),
                decode_head=dict(type="VPDDepthHead", embed_dim=16, feature_dim=128, num_deconv_filters=[8, 8, 8], **head),
                test_cfg=test_cfg)


def fixture(model_cfg, size, categories=None):
    described = json.loads(json.dumps(model_cfg))
    n = 2
    model = MODELS.build(ConfigDict(model_cfg))
    unet = model.backbone.unet.unet.diffusion_model
    out = dict(source="mmsegmentation 1.2.2, CompVis/stable-diffusion", config="vpd", classes=0, input=[n, 3, *size],
               depth="10 * uniform(depth), 0 where below 0.5", gain=1.0, model=described,
               state=ref.filled(model, 1.0, ignore=["data_preprocessor."]))
    if categories:
        out["categories"] = categories
    truth = depths((n, *size))

    def metas():
        return [dict(img_shape=size, ori_shape=size, pad_shape=size, flip=False) for _ in range(n)]

    def evaluate(x):
        unet.dtype = x.dtype
        r = dict(features=ref.tensors_of(model.extract_feat(x)), logits=model.encode_decode(x, metas()))
        if model.test_cfg.mode == "slide_flip":
            r["slide_logits"] = model.inference(x, metas())
        return r

    def losses(x):
        unet.dtype = x.dtype
        samples = []
        for i, meta in enumerate(metas()):
            if categories:
                meta["category_id"] = categories[i]
            sample = structures.SegDataSample(metainfo=meta)
            sample.gt_depth_map = PixelData(data=truth[i].to(x.dtype))
            samples.append(sample)
        total, log = model.parse_losses(model.loss(x, samples))
        return total, {k: float(v) for k, v in log.items()}

    out.update(ref.measure(model, ref.image((n, 3, *size)), evaluate, losses))
    return out


def write(name, value):
    """One entry a line, as the other fixtures have it."""
    lines = []
    for key, entry in value.items():
        if key == "state":
            rows = ",\n".join("  " + json.dumps(row) for row in entry.pop("rows"))
            text = json.dumps(entry)[:-1] + ', "rows": [\n' + rows + "\n]}"
        else:
            text = json.dumps(entry)
        lines.append(f'"{key}": {text}')
    (pathlib.Path(__file__).parent / name).write_text("{\n" + ",\n".join(lines) + "\n}\n")


torch.set_num_threads(1)
write("vpd_categories.json", fixture(
    model_of(dict(attention_resolutions=[4, 2, 1], channel_mult=[1, 2, 2, 2], num_heads=4, transformer_depth=1,
                  use_checkpoint=True, legacy=False),
             dict(resolution=256, ch_mult=[1, 2, 1, 1], num_res_blocks=1, attn_resolutions=[64]),
             dict(class_embed_select=True, pad_shape=[64, 128], pad_val=0.5),
             dict(in_channels=[32, 64, 64, 64], max_depth=8.0, fmap_border=[0, 1]),
             dict(mode="slide_flip", crop_size=[60, 64], stride=[60, 30])),
    (60, 100), categories=[3, -1]))
write("vpd_all_texts.json", fixture(
    model_of(dict(attention_resolutions=[8, 2], channel_mult=[1, 1, 2, 3], num_heads=-1, num_head_channels=16,
                  transformer_depth=2, conv_resample=False),
             dict(resolution=64, ch_mult=[1, 1, 2, 2], num_res_blocks=2, attn_resolutions=[], resamp_with_conv=False),
             dict(gamma=0.1),
             dict(in_channels=[32, 32, 64, 96], align_corners=True,
                  loss_decode=[dict(type="SiLogLoss"), dict(type="SiLogLoss", loss_weight=0.5, eps=2.0, reduction="sum",
                                                            loss_name="loss_far")]),
             dict(mode="whole")),
    (64, 64)))
