import math, os.path as osp
import copy
custom_imports = dict(imports=["floors_dataset"], allow_failed_imports=False)
default_scope = "mmseg"
Resize = lambda w, h=None, **more: dict(type="Resize", scale=(w, h or w), **more)
load, ann, pack = (dict(type=t) for t in ("LoadImageFromFile", "LoadAnnotations", "PackSegInputs"))
ann["reduce_zero_label"] = True
size = 64
while size % 16: size += 1
dims = (lambda patch: [(size // patch) ** 2, 24])(16)
if dims[0] != 16: raise ValueError(f"{dims = }")
widths = dict(embed_dims=dims[1], num_heads=2)
data_preprocessor = dict(type="SegDataPreProcessor", mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=(size, size))
model = dict(
    type="EncoderDecoder", data_preprocessor=data_preprocessor, pretrained=None,
    backbone=dict(type="VisionTransformer", img_size=(size, size), patch_size=16, in_channels=3, num_layers=2, **widths, drop_path_rate=0.1,
                  attn_drop_rate=0.0, drop_rate=0.0, final_norm=True, norm_cfg=dict(type="LN", eps=1e-6, requires_grad=True),
                  with_cls_token=True, interpolate_mode="bicubic"),
    decode_head=dict(type="SegmenterMaskTransformerHead", in_channels=dims[1], channels=dims[1], num_classes=4, num_layers=1, **widths, dropout_ratio=0.0,
                     loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0, class_weight=None, ignore_index=255) if False else dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0)),
    test_cfg=dict(mode="slide", crop_size=(size, size), stride=(math.floor(size * .75),) * 2))
train_pipeline = [load, ann, Resize(96, 72, keep_ratio=True), dict(type="RandomCrop", crop_size=(size, size), cat_max_ratio=0.75),
                  dict(type="RandomApply", transforms=[dict(type="RandomGrayscale", prob=1.0)], prob=0.1), pack]
test_pipeline = [load, Resize(96, keep_ratio=True), ann, pack]
common = dict(num_workers=2, persistent_workers=True)
train_dataloader = dict(batch_size=1, sampler=dict(type="InfiniteSampler", shuffle=True), **common)
val_dataloader = dict(batch_size=1, sampler=dict(type="DefaultSampler", shuffle=False), **common)
for dataloader, part in ((train_dataloader, "train"), (val_dataloader, "val")):
    dataloader["dataset"] = dict(type="Floors", data_root=osp.join("data", "floors"), data_prefix=dict(img_path=part + "/img", seg_map_path=part + "/seg"),
                                 pipeline=copy.deepcopy(locals()[f"{'test' if part == 'val' else part}_pipeline"]))
del dataloader, part, load, ann, pack
test_dataloader = copy.deepcopy(val_dataloader)
test_dataloader["dataset"]["data_prefix"]["seg_map_path"] = "val/seg"
val_evaluator = test_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
lrs = [1e-3 * 10 ** -i for i in range(3)]
optimizer = dict(type="SGD", lr=lrs[0], momentum=0.9, weight_decay=0.0)
optim_wrapper = dict(type="OptimWrapper", optimizer=optimizer, clip_grad=None,
                     paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=lrs[1] / lrs[0]), "pos_embed": dict(decay_mult=0.)}, bias_lr_mult=2., bias_decay_mult=0.))
param_scheduler = [dict(type="ConstantLR", factor=.3, begin=0, end=50, by_epoch=False), dict(type="ExponentialLR", gamma=.999, begin=50, end=1000, by_epoch=False),
                   dict(type="CosineAnnealingMomentum", T_max=950, eta_min=.85, begin=50, end=1000, by_epoch=False)]
train_cfg, val_cfg, test_cfg = dict(type="IterBasedTrainLoop", max_iters=1_000, val_interval=250), dict(type="ValLoop"), dict(type="TestLoop")
default_hooks = dict(timer=dict(type="IterTimerHook"), logger=dict(type="LoggerHook", interval=50), param_scheduler=dict(type="ParamSchedulerHook"),
                     checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=250), sampler_seed=dict(type="DistSamplerSeedHook"))
custom_hooks = [dict(type="SyncBuffersHook"), dict(type="ProfilerHook", on_trace_ready=None) if 0 else dict(type="EmptyCacheHook", after_iter=False)]
visualizer = dict(type="SegLocalVisualizer", vis_backends=[dict(type="DVCLiveVisBackend", init_kwargs=dict(dvcyaml=False))], name="visualizer")
log_processor = dict(by_epoch=False)
