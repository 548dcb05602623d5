_base_ = [
    '../_base_/models/seqnet_swin-t_fpn.py',
    '../_base_/datasets/prw.py',
    '../_base_/schedules/schedule_20e_adamw.py',
    '../_base_/default_runtime.py',
]
model = dict(roi_head=dict(second=dict(reid_loss=dict(queue_size=500))))
