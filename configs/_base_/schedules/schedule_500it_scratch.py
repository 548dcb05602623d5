# As schedule_10e_scratch.py, but for 500 steps, however large the data set is.
_base_ = '../default_runtime.py'  # which counts epochs
max_iters = 500
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, eta_min_ratio=0.02),
]
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.002, weight_decay=0.05), clip_grad=dict(max_norm=10)
)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=100), logger=dict(interval=20, log_metric_by_epoch=False))
log_processor = dict(by_epoch=False)
