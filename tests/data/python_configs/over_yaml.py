_base_ = ['./_base_/models/fcn.py']
import json
import os

settings = json.loads('{"lr": 0.002, "steps": [1, 2], "amp": null}')
optim_wrapper = dict(type='AmpOptimWrapper' if settings['amp'] else 'OptimWrapper',
                     optimizer=dict(type='AdamW', lr=settings['lr'], betas=(0.9, 0.999)))
home = os.environ.get('SEGCORE_NO_SUCH_VARIABLE', 'nowhere')
cache = '{{$SEGCORE_NO_SUCH_VARIABLE:/tmp/cache}}'
del settings
