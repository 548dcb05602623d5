_base_ = [
    '../_base_/models/qeeps_r18-w8_fpn.py',
    '../_base_/datasets/synthps.py',
    '../_base_/schedules/schedule_10e_scratch.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(sampler=dict(type='PairSampler'), batch_sampler=None)
test_cfg = dict(type='QuerySearchLoop')
test_evaluator = dict(type='QuerySearchMetric')
