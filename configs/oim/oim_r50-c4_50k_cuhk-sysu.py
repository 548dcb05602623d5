_base_ = ['../_base_/models/oim_r50_c4.py', '../_base_/datasets/cuhk_sysu.py', '../_base_/schedules/schedule_50k.py']
train_dataloader = dict(batch_size=2, sampler=dict(type='InfiniteSampler', shuffle=True))
