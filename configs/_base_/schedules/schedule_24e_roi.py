# RoI-AlignPS's schedule (the published code's): SGD 0.0015 for batches of 5, 24 epochs, drops at 16 and 22.
_base_ = './schedule_24e.py'
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(start_factor=1 / 200, end=1141)
optim_wrapper = dict(optimizer=dict(lr=0.0015, weight_decay=0.0005), paramwise_cfg=None, clip_grad=dict(max_norm=10))
auto_scale_lr = dict(base_batch_size=5)
