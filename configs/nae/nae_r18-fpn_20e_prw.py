_base_ = [
    '../_base_/models/nae_r18_fpn.py',
    '../_base_/datasets/prw.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]
model = dict(roi_head=dict(reid_loss=dict(queue_size=500)))
