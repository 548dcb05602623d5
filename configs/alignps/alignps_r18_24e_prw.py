_base_ = [
    '../_base_/models/alignps_r18.py',
    '../_base_/datasets/prw_multiscale.py',
    '../_base_/schedules/schedule_24e.py',
    '../_base_/default_runtime.py',
]
model = dict(bbox_head=dict(reid_loss=dict(queue_size=500, scale=15.0, queue_scale=10.0, normalize=True), triplet_loss=None))
optim_wrapper = dict(optimizer=dict(weight_decay=0.001))
val_evaluator = dict(score_thr=0.15)
test_evaluator = val_evaluator
