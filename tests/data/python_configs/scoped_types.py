custom_imports = dict(imports='mmpretrain.models', allow_failed_imports=False)
checkpoint = 'https://example.org/convnext.pth'
model = dict(
    type='mmseg.EncoderDecoder',
    backbone=dict(
        type='mmpretrain.ConvNeXt',
        arch='tiny',
        out_indices=[0, 1, 2, 3],
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')))
default_hooks = dict(timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=50))
