_base_ = [
    '../_base_/models/alignps_r50-roi.py',
    '../_base_/datasets/prw_multiscale.py',
    '../_base_/schedules/schedule_24e_roi.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(batch_size=5)
model = dict(bbox_head=dict(reid_loss=dict(queue_size=500)), roi_head=dict(reid_loss=dict(queue_size=500)))
val_evaluator = dict(score_thr=0.15)
test_evaluator = val_evaluator
