_base_ = [
    '../_base_/models/alignps_r50-roi.py',
    '../_base_/datasets/cuhk_sysu_multiscale.py',
    '../_base_/schedules/schedule_24e_roi.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(batch_size=5)
val_evaluator = dict(score_thr=0.2)
test_evaluator = val_evaluator
