_base_ = [
    '../_base_/models/qeeps_r50_c4.py',
    '../_base_/datasets/cuhk_sysu.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(batch_size=4, sampler=dict(type='PairSampler'), batch_sampler=None)
test_cfg = dict(type='QuerySearchLoop')
test_evaluator = dict(type='QuerySearchMetric')
