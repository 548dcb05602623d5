_base_ = [
    '../_base_/models/alignps_mobilenetv2-c64.py',
    '../_base_/datasets/synthps.py',
    '../_base_/schedules/schedule_3e_pretrained.py',
    '../_base_/default_runtime.py',
]
val_evaluator = dict(score_thr=0.1)
test_evaluator = val_evaluator
