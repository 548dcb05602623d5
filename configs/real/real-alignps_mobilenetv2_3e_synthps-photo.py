# AlignPS by the recipe of the model for photographs. Its confidences are low.
_base_ = [
    '../_base_/models/alignps_mobilenetv2-c64.py',
    '../_base_/datasets/synthps_photo.py',
    '../_base_/schedules/schedule_3e_pretrained.py',
    '../_base_/default_runtime.py',
]
model = dict(bbox_head=dict(reid_loss=dict(loss_weight=0.1)))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.2))))
val_evaluator = dict(score_thr=0.1)
test_evaluator = val_evaluator
score_thr = 0.3  # of an inferencer
