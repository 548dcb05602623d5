# OIM's schedule (CVPR 2017, section 5.2): batches of 2, 50,000 steps, a drop at 40,000.
_base_ = '../default_runtime.py'  # which counts epochs
train_cfg = dict(type='IterBasedTrainLoop', max_iters=50000, val_interval=10000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [dict(type='MultiStepLR', by_epoch=False, begin=0, end=50000, milestones=[40000], gamma=0.1)]
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=0.0005))
auto_scale_lr = dict(enable=False, base_batch_size=2)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000), logger=dict(log_metric_by_epoch=False))
log_processor = dict(by_epoch=False)
