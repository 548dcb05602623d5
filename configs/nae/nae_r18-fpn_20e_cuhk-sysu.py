_base_ = [
    '../_base_/models/nae_r18_fpn.py',
    '../_base_/datasets/cuhk_sysu.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]
