_base_ = [
    '../_base_/models/nae_r18-w8_fpn.py',
    '../_base_/datasets/synthps.py',
    '../_base_/schedules/schedule_10e_scratch.py',
    '../_base_/default_runtime.py',
]
