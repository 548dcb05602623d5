_base_ = [
    '../_base_/models/seqnet_mobilenetv2-c64_fpn.py',
    '../_base_/datasets/synthps.py',
    '../_base_/schedules/schedule_3e_pretrained.py',
    '../_base_/default_runtime.py',
]
