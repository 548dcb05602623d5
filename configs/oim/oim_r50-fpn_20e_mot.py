_base_ = [
    '../_base_/models/oim_r50_fpn.py',
    '../_base_/datasets/mot.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]
