_base_ = [
    '../_base_/models/frcnn_r50_fpn.py',
    '../_base_/datasets/prw.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]
custom_hooks = [hook for hook in _base_.custom_hooks if hook.type != 'IdentityHook']
val_evaluator = dict(_delete_=True, type='mmdet.VOCMetric', eval_mode='area')
test_evaluator = dict(**val_evaluator)
