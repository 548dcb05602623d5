_base_ = [
    '../_base_/models/oim_r18-w32_fpn.py',
    '../_base_/datasets/synthps.py',
    '../_base_/schedules/schedule_10e_scratch.py',
    '../_base_/default_runtime.py',
]
