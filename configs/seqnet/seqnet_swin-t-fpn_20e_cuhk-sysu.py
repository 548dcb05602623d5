_base_ = [
    '../_base_/models/seqnet_swin-t_fpn.py',
    '../_base_/datasets/cuhk_sysu.py',
    '../_base_/schedules/schedule_20e_adamw.py',
    '../_base_/default_runtime.py',
]
