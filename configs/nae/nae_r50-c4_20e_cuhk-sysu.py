_base_ = [
    '../_base_/models/nae_r50_c4.py',
    '../_base_/datasets/cuhk_sysu.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]
# Box regression has weight 10, as in the published training.
model = dict(roi_head=dict(bbox_head=dict(loss_bbox=dict(loss_weight=10.0))))
