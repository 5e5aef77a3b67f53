# تقسيم صور التمور
default_scope='mmseg'
custom_imports=dict(imports=['dates_dataset'],allow_failed_imports=False)
norm_cfg=dict(type='SyncBN',requires_grad=True)
model=dict(
	type='EncoderDecoder',
	data_preprocessor=dict(
		type='SegDataPreProcessor',
		mean=[	123.675,	116.28,	103.53	],
		std=[	58.395,	57.12,	57.375	],
		bgr_to_rgb=True,	pad_val=0,	seg_pad_val=255,	size_divisor=32,
		test_cfg=dict(size_divisor=32)),
	backbone=dict(
		type='MixVisionTransformer',	in_channels=3,	embed_dims=8,
		num_stages=4,	num_layers=[1]*4,	num_heads=[1,2,4,8],
		patch_sizes=[7,3,3,3],	sr_ratios=[8,4,2,1],	out_indices=(0,1,2,3),
		mlp_ratio=2,	qkv_bias=True,	drop_rate=0.0,	attn_drop_rate=0.0,	drop_path_rate=0.1),
	decode_head=dict(
		type='SegformerHead',	in_channels=[8,16,32,64],	in_index=[0,1,2,3],
		channels=16,	dropout_ratio=0.1,	num_classes=3,
		norm_cfg=norm_cfg,	align_corners=False,
		loss_decode=dict(type='CrossEntropyLoss',use_sigmoid=False,loss_weight=1.0)),
	train_cfg=dict(),	test_cfg=dict(mode='whole'))
albums=['الصيف','الخريف']	# مجلدان
img_ratios=[.5,.75,1.,1.25,1.5,1.75]
train_pipeline=[
	dict(type='LoadImageFromFile'),dict(type='LoadAnnotations'),
	dict(type='RandomChoiceResize',scales=[int(64*x*0.1)for x in range(5,21)],resize_type='ResizeShortestEdge',max_size=256),
	dict(type='RandomCrop',crop_size=(64,64),cat_max_ratio=0.75),
	dict(type='RandomFlip',prob=0.5),dict(type='PhotoMetricDistortion'),dict(type='PackSegInputs')]
test_pipeline=[
	dict(type='LoadImageFromFile'),dict(type='Resize',scale=(256,64),keep_ratio=True),
	dict(type='LoadAnnotations'),dict(type='PackSegInputs')]
tta_model=dict(type='SegTTAModel')
tta_pipeline=[
	dict(type='LoadImageFromFile',backend_args=None),
	dict(type='TestTimeAug',transforms=[
		[dict(type='Resize',scale_factor=r,keep_ratio=True)for r in img_ratios],
		[dict(type='RandomFlip',prob=p,direction='horizontal')for p in(0.,1.)],
		[dict(type='LoadAnnotations')],[dict(type='PackSegInputs')]])]
train_dataloader=dict(batch_size=2,num_workers=2,persistent_workers=True,sampler=dict(type='InfiniteSampler',shuffle=True),dataset=dict(
	type='DatesDataset',data_root='data/dates',
	data_prefix=dict(img_path='صور',seg_map_path='أقنعة'),	pipeline=train_pipeline))
val_dataloader=dict(batch_size=1,num_workers=2,persistent_workers=True,sampler=dict(type='DefaultSampler',shuffle=False),dataset=dict(
	type='DatesDataset',data_root='data/dates',
	data_prefix=dict(img_path=albums[0]+'/صور',seg_map_path=albums[0]+'/أقنعة'),	pipeline=test_pipeline))
test_dataloader=val_dataloader
val_evaluator=dict(type='IoUMetric',iou_metrics=['mIoU']);test_evaluator=val_evaluator
optim_wrapper=dict(type='OptimWrapper',optimizer=dict(type='AdamW',lr=0.00006,betas=(0.9,0.999),weight_decay=0.01),
	paramwise_cfg=dict(custom_keys={'pos_block':dict(decay_mult=0.),'norm':dict(decay_mult=0.),'head':dict(lr_mult=10.)}))
param_scheduler=[dict(type='LinearLR',start_factor=1e-6,by_epoch=False,begin=0,end=150),
	dict(type='PolyLR',eta_min=0.0,power=1.0,begin=150,end=1600,by_epoch=False)]
train_cfg=dict(type='IterBasedTrainLoop',max_iters=1600,val_interval=160)
val_cfg=dict(type='ValLoop')
test_cfg=dict(type='TestLoop')
default_hooks=dict(
	timer=dict(type='IterTimerHook'),	logger=dict(type='LoggerHook',interval=50,log_metric_by_epoch=False),
	param_scheduler=dict(type='ParamSchedulerHook'),
	checkpoint=dict(type='CheckpointHook',by_epoch=False,interval=160,),
	sampler_seed=dict(type='DistSamplerSeedHook'),	visualization=dict(type='SegVisualizationHook'),)
env_cfg=dict(cudnn_benchmark=False,mp_cfg=dict(mp_start_method='spawn',opencv_num_threads=4),dist_cfg=dict(backend='gloo'))
visualizer=dict(type='SegLocalVisualizer',vis_backends=[dict(type='ClearMLVisBackend',init_kwargs=dict(project_name='تمور',task_name='segformer'))],name='visualizer')
log_processor=dict(by_epoch=False)
log_level='INFO'
