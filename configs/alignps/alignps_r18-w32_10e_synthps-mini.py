_base_ = [
    '../_base_/models/alignps_r18-w32.py',
    '../_base_/datasets/synthps.py',
    '../_base_/schedules/schedule_10e_scratch.py',
    '../_base_/default_runtime.py',
]
val_evaluator = dict(score_thr=0.1)
test_evaluator = val_evaluator
